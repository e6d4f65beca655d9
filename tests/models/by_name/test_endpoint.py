"""An OpenAI-compatible endpoint, asked over HTTP: a real server with real text vectors, and its faults."""

from __future__ import annotations

import logging
import pickle
import socket
import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from fct_ray.errors import DataError, ModelError, SettingsError
from fct_ray.models.batch_encoder import BatchEncoder, check_encoder, encode_metered
from fct_ray.models.by_name import endpoint_requests
from fct_ray.models.by_name.registry import open_named
from tests.embeddings_server import EmbeddingsServer, embeddings_server
from tests.models.by_name.packaged_models import TEXTS, minilm_directory

KEY = "sk-proj-4fzT9vQm2LxW8rKdY1bN"
MANY = [f"{text}, number {number}" for number in range(6) for text in TEXTS]


@pytest.fixture(scope="module")
def vectors() -> dict[str, npt.NDArray[np.float32]]:
    """Real vectors of all texts, by all-MiniLM-L6-v2."""
    texts = [*MANY, *TEXTS, "dimension"]
    encoder = open_named(f"sentence-transformers:{minilm_directory()}")
    return dict(zip(texts, encoder.encode({"text": texts}), strict=True))


@pytest.fixture
def server(vectors: dict[str, npt.NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingsServer]:
    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([vectors[text] for text in texts]) * np.float32(
            3.0
        )  # not of unit length, as some servers have it

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with embeddings_server(encode, KEY) as running:
        yield running


def wanted(vectors: dict[str, npt.NDArray[np.float32]], texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.array([vectors[text] for text in texts])


def opened(server: EmbeddingsServer, options: str = "") -> BatchEncoder:
    return open_named(f"openai:minilm@{server.url}{options}")


@pytest.mark.parametrize("options", ["", "&encoding=base64", "&encoding=float"])
def test_texts_go_in_batches_and_come_back_in_their_order_with_the_tokens_counted(
    server: EmbeddingsServer, vectors: dict[str, npt.NDArray[np.float32]], options: str
) -> None:
    encoder = opened(server, f"?batch=5&concurrency=2{options}")
    assert (encoder.dimension, encoder.normalized, encoder.flops_per_item) == (384, True, 0.0)
    encode_metered(encoder, {"text": []})  # so that the first question is not among the tokens below
    seen, usage = encode_metered(encoder, {"text": MANY})
    np.testing.assert_allclose(seen, wanted(vectors, MANY), atol=1e-6)
    assert sorted(server.sizes[1:]) == [4, 5, 5, 5, 5]
    assert usage.tokens == sum(len(text.split()) for text in MANY)
    assert usage.busy_gpu_s == 0.0
    assert encode_metered(encoder, {"text": MANY[:1]})[1].tokens == len(MANY[0].split())
    check_encoder(encoder)


def test_not_more_requests_than_allowed_are_under_way_at_once(server: EmbeddingsServer) -> None:
    server.pause_s = 0.05
    opened(server, "?batch=1&concurrency=3").encode({"text": MANY})
    assert server.most_at_once == 3


def test_fewer_dimensions_are_asked_for_and_vectors_stay_as_they_are_where_that_is_wanted(
    server: EmbeddingsServer, vectors: dict[str, npt.NDArray[np.float32]]
) -> None:
    encoder = opened(server, "?dimensions=64&normalize=no")
    assert (encoder.dimension, encoder.normalized, server.bodies) == (64, False, [])
    seen = encoder.encode({"text": list(TEXTS)})
    np.testing.assert_allclose(seen, 3 * wanted(vectors, TEXTS)[:, :64], atol=1e-6)
    assert server.bodies[0]["dimensions"] == 64


def test_a_limit_is_waited_for_as_long_as_the_endpoint_says(
    server: EmbeddingsServer, vectors: dict[str, npt.NDArray[np.float32]]
) -> None:
    encoder = opened(server, "?dimensions=384")
    server.faults = ["429 after 1.5"]
    np.testing.assert_allclose(encoder.encode({"text": list(TEXTS)}), wanted(vectors, TEXTS), atol=1e-6)
    first_s, second_s = server.times
    assert 1.5 <= second_s - first_s < 5


def test_a_retry_after_that_is_a_date_is_understood() -> None:
    from email.utils import formatdate

    assert (
        58 < (endpoint_requests._retry_after_s({"retry-after": formatdate(time.time() + 60, usegmt=True)}) or 0) <= 60
    )
    assert endpoint_requests._retry_after_s({"retry-after": "soon"}) is None
    assert endpoint_requests._retry_after_s({"retry-after-ms": "250", "retry-after": "9"}) == 0.25


def test_a_pause_longer_than_two_minutes_is_an_error_with_its_length(server: EmbeddingsServer) -> None:
    encoder = opened(server, "?dimensions=384")
    server.faults = ["429 after 3600"]
    with pytest.raises(ModelError, match=r"answered 429 .*Rate limit reached.*asks to wait 3,600 s"):
        encoder.encode({"text": ["a"]})
    assert len(server.times) == 1


@pytest.mark.parametrize("fault", ["500", "503", "slow", "html"])
def test_faults_that_pass_are_met_with_another_try(
    server: EmbeddingsServer, vectors: dict[str, npt.NDArray[np.float32]], fault: str
) -> None:
    encoder = opened(server, "?dimensions=384&timeout=1")
    server.faults = [fault]
    np.testing.assert_allclose(encoder.encode({"text": list(TEXTS)}), wanted(vectors, TEXTS), atol=1e-6)
    assert len(server.times) == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("dimension", "gave vectors of dimension 7; want 384"),
        ("count", "gave 3 vectors for 4 texts"),
        ("400", "answered 400 .*check model and address"),
        ("404", "answered 404"),
    ],
)
def test_faults_that_no_repetition_mends_are_said_at_once(server: EmbeddingsServer, fault: str, said: str) -> None:
    encoder = opened(server)
    assert encoder.dimension == 384
    server.faults = [fault]
    with pytest.raises(ModelError, match=said):
        encoder.encode({"text": list(TEXTS)})
    assert len(server.times) == 2


def test_a_row_that_is_not_a_number_stays_one_and_spoils_no_other(
    server: EmbeddingsServer, vectors: dict[str, npt.NDArray[np.float32]]
) -> None:
    encoder = opened(server, "?dimensions=384")
    server.faults = ["nan"]
    seen = encoder.encode({"text": list(TEXTS)})
    assert np.isnan(seen[0]).any()
    np.testing.assert_allclose(seen[1:], wanted(vectors, TEXTS)[1:], atol=1e-6)


def test_whoever_does_not_answer_is_given_up_within_seconds() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    encoder, start_s = open_named(f"openai:gone@http://127.0.0.1:{port}/v1"), time.monotonic()
    assert encoder.fingerprint, "what it is called is known without it"
    with pytest.raises(ModelError, match=r"cannot be reached .*, after 2 attempts"):
        _ = encoder.dimension
    assert time.monotonic() - start_s < 20


@pytest.mark.parametrize("fault", ["echo", "echo a part", "401"])
def test_the_key_is_in_no_error_and_no_log_also_where_the_server_repeats_it(
    server: EmbeddingsServer, caplog: pytest.LogCaptureFixture, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(endpoint_requests.Requests.embed, "__kwdefaults__", {"attempts": 2})
    server.always = None if fault == "401" else fault
    server.key = "another" if fault == "401" else KEY
    encoder = opened(server, "?dimensions=384")
    with pytest.raises(ModelError) as refusal:
        encoder.encode({"text": ["a"]})
    chain: list[BaseException | None] = [refusal.value, refusal.value.__cause__]
    shown = " ".join([*map(repr, chain), caplog.text, repr(encoder), encoder.name, encoder.fingerprint])
    shown += pickle.dumps(encoder).decode("latin1") + str(vars(encoder))
    for start in range(len(KEY) - 7):
        assert KEY[start : start + 8] not in shown
    said = {"401": r"refused \(401\): OPENAI_API_KEY is set", "echo": "not shown", "echo a part": "not shown"}
    assert refusal.match(said[fault])


def test_an_encoder_travels_as_its_name(server: EmbeddingsServer) -> None:
    encoder = opened(server)
    assert pickle.loads(pickle.dumps(encoder)) is encoder  # noqa: S301 (our own bytes)


def test_the_fingerprint_is_of_model_address_and_what_changes_vectors(server: EmbeddingsServer) -> None:
    first = opened(server).fingerprint
    assert opened(server, "?batch=3&concurrency=9&timeout=5&key=OTHER_KEY&encoding=base64").fingerprint == first
    others = {opened(server, options).fingerprint for options in ("?dimensions=64", "?normalize=no")}
    others.add(open_named(f"openai:other@{server.url}").fingerprint)
    others.add(open_named("openai:minilm@http://127.0.0.1:9/v1").fingerprint)
    assert len({first, *others}) == 5


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("openai:m@https://me:geheim@host/v1", "credentials in the URL"),
        ("openai:m@https://host/v1?key=sk-geheim-1", "names an environment variable"),
        ("openai:m@https://host/v1?api_key=geheim", "unknown option 'api_key'"),
        ("openai:m@https://host/v1?batch=none", "want a whole number"),
        ("openai:m@https://host/v1?encoding=int8", "want float or base64"),
        ("openai:m@https:///v1", "no address of a server"),
    ],
)
def test_an_address_that_cannot_work_is_refused_and_a_secret_in_it_not_repeated(spec: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refusal:
        open_named(spec)
    assert "geheim" not in str(refusal.value)


def test_photos_are_refused(server: EmbeddingsServer) -> None:
    with pytest.raises(DataError, match="wants 'text'"):
        opened(server).encode({"image": []})
