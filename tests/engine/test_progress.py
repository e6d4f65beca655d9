"""Progress in a log file: plain lines, few of them."""

from __future__ import annotations

import io

from fct_ray.engine.progress import LINE_EVERY_S, Lines


def test_a_short_step_is_one_plain_line_at_its_end() -> None:
    out, clock = io.StringIO(), iter([0.0, 1.0, 2.0, 7.0])
    with Lines(2, "verify", "shard", out, lambda: next(clock)) as lines:
        for shard in range(2):
            lines.update(1)
            lines.set_postfix_str(f"shard {shard}", refresh=False)
        assert out.getvalue() == ""
    assert out.getvalue() == "verify: 2 of 2 shards in 7 s (shard 1)\n"


def test_a_long_step_has_a_line_a_minute() -> None:
    now_s, out = [0.0], io.StringIO()
    with Lines(180, "embed", "shard", out, lambda: now_s[0]) as lines:
        for _ in range(180):
            now_s[0] += LINE_EVERY_S / 60
            lines.update(1)
    lines_said = out.getvalue().splitlines()
    assert len(lines_said) == 4
    assert lines_said[0] == "embed: 60 of 180 shards in 60 s"


def test_a_step_with_nothing_to_do_has_no_line() -> None:
    out = io.StringIO()
    with Lines(0, "copy", "shard", out, lambda: 0.0):
        pass
    assert out.getvalue() == ""
