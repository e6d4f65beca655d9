"""The sentences follow the numbers: they praise side-information only where it helped, and name harm."""

from __future__ import annotations

import dataclasses

from fct_ray.judgements import RecoveredShare
from fct_ray.kinds import Method
from fct_ray.report.content import Report, Saved
from fct_ray.report.explanations import METHOD_TITLES, ordered_rows, what_it_shows, why_it_works


def told(report: Report, **shares: float) -> str:
    recovered = {Method(name): RecoveredShare(top1=share, map=share) for name, share in shares.items()}
    return " ".join(what_it_shows(dataclasses.replace(report, recovered_share=recovered)))


def test_a_newcomer_reads_what_doing_nothing_gives_what_h_recovers_and_why(report: Report) -> None:
    text = " ".join(why_it_works(report))
    unjudged = why_it_works(dataclasses.replace(report, gate=None))
    assert unjudged[0] == (
        "Doing nothing (old model on both sides) gives 50.0 % mAP; embedding all again gives 90.0 %."
    )
    assert "cannot search the old embeddings directly (8.0 % mAP)" in text
    assert "recovers 92.5 % of that gain from the old embeddings alone, and 95.7 % when it also reads" in text
    assert "both better than doing nothing" in text
    assert "kept part of it, so h can put it back" in text


def test_side_information_that_did_not_help_is_not_praised(report: Report) -> None:
    text = told(report, fct_side=0.90, fct_noside=0.92)
    assert "did not help" in text
    assert "put it back" not in text


def test_an_h_that_did_harm_is_called_harmful(report: Report) -> None:
    assert "h did harm here" in told(report, fct_side=-0.1, fct_noside=-0.3)
    assert "without it, h does harm here" in told(report, fct_side=0.4, fct_noside=-0.3)
    assert "h did harm here" in told(report, fct_noside=-0.1)


def test_one_kind_of_h_alone_is_told_too(report: Report) -> None:
    assert "h, without side-information, recovers 80.0 %" in told(report, fct_noside=0.8)


def test_a_new_model_that_is_no_better_leaves_nothing_to_recover(report: Report) -> None:
    rows = tuple(
        dataclasses.replace(row, map=0.4) if row.method == Method.NEW_NEW else row for row in report.compatibility
    )
    sentences = why_it_works(dataclasses.replace(report, compatibility=rows))
    assert sentences[-1].endswith("there is nothing to recover.")


def test_nothing_is_said_without_the_two_references(report: Report) -> None:
    assert why_it_works(dataclasses.replace(report, compatibility=report.compatibility[2:])) == ()


def test_rows_run_from_doing_nothing_to_the_full_backfill(report: Report) -> None:
    rows = ordered_rows(report.compatibility)
    assert [row.method for row in rows] == ["old_old", "direct", "fct_noside", "fct_side", "new_new"]


def test_every_method_has_a_title_and_so_a_place_in_the_table() -> None:
    assert list(METHOD_TITLES) == list(Method)


def test_the_first_sentences_say_what_was_gained_what_it_cost_and_from_which_size_on_it_pays(report: Report) -> None:
    gained, cost, break_even, largest = what_it_shows(report)[:4]
    assert gained.endswith(
        "gives 88.3 % mAP and 90.0 % top-1, where doing nothing gives 50.0 % mAP and 60.0 % top-1, and a full backfill "
        "90.0 % mAP and 92.0 % top-1: 95.7 % of the gain in mAP, without embedding the gallery again."
    )
    assert "takes 1.8x the busy compute, 3.2x the FLOPs, and 12.5x for each further item." in cost
    assert "from 14,321 gallery items on" in break_even
    assert largest == (  # 2 processors: 1,000 s of one are 500 s of the machine, $0.10 an hour
        "For 1,000,000,000 items on m7i.large, all processors busy: $0.014 for the upgrade, $0.14 for the full backfill."
    )


def test_a_saving_without_break_even_says_so(report: Report) -> None:
    dearer = dataclasses.replace(report, saved=Saved(factors={}))
    assert "No gallery size was found from which the upgrade is the cheaper one." in what_it_shows(dearer)
    assert "cheaper" not in " ".join(what_it_shows(dataclasses.replace(report, saved=None)))
