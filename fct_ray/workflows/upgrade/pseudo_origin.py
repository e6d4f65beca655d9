"""Where an upgrade's pseudo-queries come from, decided once, when it is planned: other views of items, and who embeds them.

Owns: what `--views`, `--old-encoder` and `--side-encoder` mean together, and what they must fit. Making the queries is
`pseudo_queries`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fct_ray.errors import SettingsError
from fct_ray.kinds import QueryRole, SideInfoUse
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.shards.encoder_names import EncoderChoice, EncoderSpec, why_not
from fct_ray.shards.model_directory import embedding_encoder, open_encoder
from fct_ray.sources.views import Views, open_views
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.upgrade.settings import FitOnPairsSettings

SETTING = {QueryRole.OLD: "--old-encoder", QueryRole.SIDE: "--side-encoder"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewEncoder:
    """One encoder of views."""

    name: str
    """As its user named it."""
    fingerprint: str
    spec: EncoderSpec
    opened: BatchEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoOrigin:
    """Other views of items, and the encoders that embed them."""

    views: Views
    encoders: Mapping[QueryRole, ViewEncoder]
    """By role: old, new, and side where it is known."""

    @property
    def identity(self) -> str:
        """What decides the pseudo-queries; part of a run's identity. The new encoder is there anyway."""
        parts = [f"{role} {self.encoders[role].fingerprint}" for role in SETTING if role in self.encoders]
        return " ".join([self.views.spec, self.views.source, *parts])


def pseudo_origin(settings: FitOnPairsSettings, choice: EncoderChoice, store: Store) -> PseudoOrigin | None:
    """The pseudo-queries that the settings name; None where they name no views.

    Raises:
        SettingsError: something is missing that views need, or given that only views need; or real queries are given too.
    """
    if settings.views is None:
        given = [name for name in (settings.old_encoder, settings.side_encoder) if name is not None]
        if given and settings.encoders_are_for_views:
            raise SettingsError(
                f"encoder {given[0]!r} is given to embed other views of items, and no --views; say where these come from "
                "(crop, span:CHARS or a source), or leave the encoder out"
            )
        return None
    if settings.queries_file is not None:
        raise SettingsError(
            f"both --queries {settings.queries_file} and --views {settings.views} are given; real queries decide alone: "
            "leave --views out"
        )
    views = open_views(settings.views, settings.source)
    if settings.old_encoder is None:
        raise SettingsError(
            f"--views {settings.views} is given without --old-encoder; want the model that the store was embedded by (a "
            "model directory or package.module:factory): views are embedded by the old and by the new model"
        )
    named = {QueryRole.OLD: settings.old_encoder, QueryRole.SIDE: settings.side_encoder}
    encoders = {role: _encoder(name, SETTING[role], store) for role, name in named.items() if name is not None}
    if choice.uri is None:
        raise SettingsError(
            f"encoder {settings.encoder!r} {why_not(choice)}, so it cannot embed --views: give a model directory, "
            "package.module:factory or a pretrained model, or leave --views out"
        )
    encoders[QueryRole.NEW] = ViewEncoder(
        name=choice.ref.name, fingerprint=choice.ref.fingerprint, spec=choice.uri, opened=open_encoder(choice.uri)
    )
    return PseudoOrigin(views=views, encoders=encoders)


def check_pseudo_origin(origin: PseudoOrigin | None, parent: Manifest, settings: FitOnPairsSettings) -> None:
    """Refuse encoders that are not those of the version, whose vectors views must be able to search.

    Raises:
        SettingsError: says which model is wanted.
    """
    if origin is None:
        return
    if parent.queries:
        names = ", ".join(f"{query.encoder.name} ({query.role})" for query in parent.queries)
        raise SettingsError(
            f"--views {origin.views.spec}: version {parent.version} has vectors joined of several models' ({names}), "
            "which one old encoder cannot search: roll back to the version before (fct-ray store rollback) and upgrade that "
            "one, or leave --views out"
        )
    _check(origin, QueryRole.OLD, parent.encoder.name, parent.encoder.fingerprint, parent.dimension, parent)
    side = parent.side_info
    if QueryRole.SIDE not in origin.encoders:
        return
    if side is None or settings.side_info == SideInfoUse.NONE:
        why = f"version {parent.version} stores none" if side is None else "--side-info none leaves it out"
        raise SettingsError(f"--side-encoder {settings.side_encoder} is given, and {why}: leave --side-encoder out")
    _check(origin, QueryRole.SIDE, side.name, side.fingerprint, side.dimension, parent)


def _check(
    origin: PseudoOrigin, role: QueryRole, name: str, fingerprint: str, dimension: int, parent: Manifest
) -> None:
    seen = origin.encoders[role]
    if seen.fingerprint != fingerprint:
        raise SettingsError(
            f"{SETTING[role]} {seen.name}: its fingerprint is {seen.fingerprint[:12]}; version {parent.version} has vectors "
            f"of {name} ({fingerprint[:12]}): give that model, or leave --views out"
        )
    if seen.opened.dimension != dimension:
        raise SettingsError(
            f"{SETTING[role]} {seen.name}: embeds into {seen.opened.dimension} dimensions; version {parent.version} has "
            f"{dimension} of {name}: give the model that made them"
        )


def _encoder(name: str, setting: str, store: Store) -> ViewEncoder:
    choice = embedding_encoder(name, store)
    if choice.uri is None:
        raise SettingsError(
            f"{setting} {name!r} {why_not(choice)}, so it cannot embed --views: give a model directory, "
            "package.module:factory or a pretrained model, or leave --views out: labels or the new model then judge"
        )
    return ViewEncoder(name=name, fingerprint=choice.ref.fingerprint, spec=choice.uri, opened=open_encoder(choice.uri))
