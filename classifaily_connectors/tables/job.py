"""One table on its way through a bulk run.

The law of this file: everything that can be refused is refused by `survey` and `begin`, before the run; the counts of
the result are of all rows of the output, those an earlier run landed included, and they sum.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import AsyncIterable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from classifaily_connectors.arguments import check_names
from classifaily_connectors.bulk.axes import AxesRow
from classifaily_connectors.bulk.prepare import RunOptions
from classifaily_connectors.bulk.rows import Row
from classifaily_connectors.errors import refuse
from classifaily_connectors.identity import Resolver
from classifaily_connectors.places import Address, Place, is_address, place_of
from classifaily_connectors.routing import ConfidencePolicy
from classifaily_connectors.tables.arrowtables import FrameTable
from classifaily_connectors.tables.checking import OnInvalid, Wanted
from classifaily_connectors.tables.encoders import encoder
from classifaily_connectors.tables.endings import TableResult, check_ending
from classifaily_connectors.tables.feeding import IDENTITY, AsyncFeed, Feed, Span
from classifaily_connectors.tables.folders import FolderTable
from classifaily_connectors.tables.formats import Format, format_of
from classifaily_connectors.tables.opening import Reading, open_table
from classifaily_connectors.tables.parts import Parts
from classifaily_connectors.tables.records import RecordTable
from classifaily_connectors.tables.shape import Answer, Shape
from classifaily_connectors.tables.sinks import FileSink, FrameSink, RecordSink, Sink
from classifaily_connectors.tables.surveying import Survey
from classifaily_connectors.taxonomy import fingerprint, parse_categories

if TYPE_CHECKING:
    from classifaily_connectors.bulk.progress import BulkStats
    from classifaily_connectors.models import Schema
    from classifaily_connectors.tables.chunks import Chunk
    from classifaily_connectors.taxonomy import CategorySet

Source = Any
"""A path or URL, an object path (`places.ObjectPath`), a data frame, or an iterable of mappings."""
_SHAPES_ANSWERS = ("mode", "top_n", "threshold", "explain", "refresh")


class TableOptions(RunOptions, total=False):
    """What `classify_many` or, with `axes`, `classify_axes` takes, beyond the rows and how to read them."""

    categories: CategorySet | None
    schema: int | str | Schema | None
    axes: Mapping[str, CategorySet] | None
    media_folder: Address | None
    format: str | None
    encoding: str | None
    delimiter: str | None
    quoting: str | None


_OUR_OWN = ("media_folder", "format", "encoding", "delimiter", "quoting")
"""The options of a table that are none of a run's."""


class Labelling(TypedDict):
    """How a table is read and its output written."""

    text: str | None
    template: str | None
    output: Address | None
    id_column: str | None
    prefix: str
    max_error_ratio: float | None
    on_invalid: OnInvalid


def check_labelling(given: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError for a `Labelling`, or what there is of one, that cannot work."""
    ratio, on_invalid = given.get("max_error_ratio"), given.get("on_invalid", "raise")
    if ratio is not None and not 0 <= ratio <= 1:
        raise refuse(f"max_error_ratio is {ratio!r}; it must be from 0 to 1")
    if on_invalid not in ("raise", "skip"):
        raise refuse(f"on_invalid is {on_invalid!r}; it must be raise or skip")
    if given.get("text") is not None and given.get("template") is not None:
        raise refuse("text and template exclude each other: a template names its own columns")


class TableJob:
    """What both clients do with a table; they only differ in how they wait."""

    def __init__(self, source: Source, labelling: Labelling, options: TableOptions) -> None:
        check_labelling(labelling)
        # `ordered` is none of them: a table is written in its own order.
        check_names(options, TableOptions.__annotations__, "classify_table()")
        # As words: the members of an Enum are nothing to write down.
        given = options.get("categories")
        self.categories = None if given is None else parse_categories(given)
        self.axes = {name: parse_categories(each, name) for name, each in (options.get("axes") or {}).items()}
        if self.axes and any(options.get(name) is not None for name in ("categories", "schema")):
            raise refuse("axes exclude categories and schema: give them as one of the axes")
        self.on_invalid: OnInvalid = labelling["on_invalid"]
        self.ratio, self.options = labelling["max_error_ratio"], options
        self.shape = Shape(labelling["prefix"], tuple(self.axes))
        self.wanted = Wanted(
            labelling["text"], labelling["template"], options.get("identity"), labelling["id_column"],
            options.get("type", "text"),
        )  # fmt: skip
        media_folder = options.get("media_folder")
        self.media_folder = None if media_folder is None else place_of(media_folder)
        self.output: Place | None = None
        self.format: Format | None = None
        if labelling["output"] is not None:
            self.output = place_of(labelling["output"])
            self.format = format_of(self.output.base, "output", otherwise=options.get("format"))
            self.output = self.output.resolved()  # two links to one file are one output
        self.table = open_table(source, Reading.of(options), filed=self.output is not None)
        self._encoder = None if self.format is None else encoder(self.table, self.format, self.shape)
        self.looked = Survey(self.table, self.wanted, self.on_invalid, self.shape, self._encoder)
        if is_address(source):
            self._refuse_overwriting(place_of(source))
        self.spans: deque[Span] = deque()
        """What was fed and has not come back, in order."""
        self._landed = 0
        self._rows: list[Answer] = []
        self._labels: dict[str, int] = {}
        self._sink: Sink | None = None
        self._parts: Parts | None = None
        self._resumable = False

    def _refuse_overwriting(self, source: Place) -> None:
        if self.output is None:
            return
        if source.is_same(self.output):
            raise refuse(f"output {self.output.name} is the source itself: choose another name")
        if isinstance(self.table, FolderTable) and (self.output.is_inside(source) or self.table.holds(self.output)):
            raise refuse(
                f"output {self.output.name} would be read as part of {source.name} next time: put it elsewhere"
            )

    @property
    def media(self) -> bool:
        """Whether inputs may have to be fetched."""
        return self.wanted.type != "text" or (self.wanted.own_terms and "type" in self.table.columns)

    def resolver(self) -> Resolver:
        """What turns the media that rows name into inputs: it opens files only where the caller said so.

        A row's own `type` is data, and opens nothing.
        """
        folder = self.media_folder
        opens = folder is not None or self.wanted.type != "text"
        if folder is None and (place := getattr(self.table, "place", None)) is not None:
            folder = place.folder
        return Resolver(folder, opens=opens)

    # --- before the run -----------------------------------------------------------------------

    def survey(self) -> None:
        """Go through the table once, if it can be gone through twice, and refuse what is wrong with it."""
        self.looked.run()

    @property
    def total(self) -> int | None:
        """The number of rows; None for a table that can be gone through only once."""
        return self.looked.total

    @contextlib.contextmanager
    def reserved(self) -> Generator[None]:
        """The output is ours meanwhile."""
        if self.output is None:
            yield
        else:
            self.output.check_target()
            self._parts = Parts(self.output)
            with self._parts.folder.reserved():
                try:
                    yield
                finally:
                    self._parts.remove_unused()

    def begin(self, base_url: str, schema: Schema | None) -> None:
        """Open the output, and take over what an earlier run has landed there."""
        if self.output is None or self.format is None or self._encoder is None or self._parts is None:
            self._sink = self._in_memory()
            return
        # What the ledger can still settle is asked again; without one, asking again could mean paying again.
        fingerprint = self._fingerprint(base_url, schema)
        self._parts.open(fingerprint, unsettled=not self._remembered)
        self._resumable = fingerprint is not None
        self._sink = FileSink(self.output, self.format, self._encoder, self._parts)

    @property
    def _remembered(self) -> bool:
        """Whether a ledger outlives the run."""
        ledger = self.options.get("ledger")
        return ledger not in (None, False) or (ledger is None and bool(os.environ.get("CLASSIFAILY_STORE_URL")))

    def _in_memory(self) -> Sink:
        if isinstance(self.table, FrameTable):
            return FrameSink(self.table, self.shape)
        if isinstance(self.table, RecordTable):
            return RecordSink(self.shape)
        raise refuse("output is missing: say where the labelled table goes, e.g. output='labelled.parquet'")

    def _fingerprint(self, base_url: str, schema: Schema | None) -> str | None:
        content = self.table.fingerprint()
        if content is None or self.format is None:
            return None
        options, wanted = self.options, self.wanted
        own = None if self.categories is None or schema is not None else fingerprint(self.categories)
        taxonomy = fingerprint(schema.categories) if schema is not None else own
        said: dict[str, Any] = {name: options.get(name) for name in _SHAPES_ANSWERS}
        said |= {
            "content": content,
            "columns": self.table.columns,
            "base_url": base_url,
            "taxonomy": taxonomy,
            "axes": [[name, fingerprint(axis)] for name, axis in self.axes.items()],
            "policy": (options.get("policy") or ConfidencePolicy()).fingerprint(),
            "wanted": repr(wanted),
            "output": [self.format.kind, self.format.suffix, self.shape.prefix, self.on_invalid],
        }
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()

    # --- the run ------------------------------------------------------------------------------

    def ask(self, client: Any, rows: Iterable[object] | AsyncIterable[object]) -> Any:
        """The run of either client over these rows of the table."""
        many: dict[str, Any] = {name: value for name, value in self.options.items() if name not in _OUR_OWN}
        many["template"] = self.wanted.template
        if self.wanted.template is None and self.wanted.identity is not None:
            many["identity"] = IDENTITY
        if self.axes:
            for name in ("axes", "categories", "schema"):
                many.pop(name, None)
            run = client.classify_axes(rows, self.axes, **many)
        else:
            many.pop("axes", None)
            run = client.classify_many(rows, **{**many, "categories": self.categories})
        if self._resumable and self.output is not None:
            run.stats.output = self.output.name
        return run

    def feed(self, *, rehearsing: bool = False) -> Iterable[object]:
        """The rows that are still to be asked for, for a run in this thread."""
        feed = Feed(self, (self.total or 0) - self.resumed, rehearsing=rehearsing)
        return iter(feed) if self.table.once else feed

    def afeed(self, *, rehearsing: bool = False) -> AsyncIterable[object]:
        """The same for an event loop."""
        feed = AsyncFeed(self, (self.total or 0) - self.resumed, rehearsing=rehearsing)
        return aiter(feed) if self.table.once else feed

    @property
    def resumed(self) -> int:
        """How many rows an earlier run has landed."""
        return 0 if self._parts is None else sum(part.stop - part.start for part in self._parts.earlier)

    def gaps(self, chunk: Chunk) -> list[tuple[int, int]]:
        """Which rows of the chunk nobody has landed yet, as offsets."""
        start, stop = chunk.start, chunk.start + len(chunk)
        if self.total is not None:
            stop = min(stop, self.total)  # the table has grown since it was looked at
        gaps = [(start, stop)] if self._parts is None else self._parts.gaps(start, stop)
        return [(first - start, last - start) for first, last in gaps]

    def land(self, row: Row | AxesRow) -> bool:
        """Take a row; whether it is time to `write`. A run that ends early leaves rows out."""
        if isinstance(row, AxesRow) and not row.whole:
            return False  # the next run asks for the rest, and the ledger knows these
        missing = row.index - self._landed - len(self._rows)
        if missing < 0:
            return False  # it has landed
        if missing:
            self.write()
            self._pass(missing)
        self._rows.append((row,) if isinstance(row, Row) else tuple(row.axes.values()))
        if self.axes:
            _add(self._labels, Counter(self.shape.labels(self._rows[-1])))
        _chunk, first, last = self.spans[0]
        return len(self._rows) == last - first

    def write(self) -> None:
        """Hand the rows that came back to the sink."""
        if self._sink is not None and self._rows:
            rows, self._rows = self._rows, []
            chunk, first, _last = self.spans[0]
            self._sink.write(chunk, first, first + len(rows), rows)
            self._pass(len(rows))

    def _pass(self, rows: int) -> None:
        """The next of what was fed comes so many rows later."""
        self._landed += rows
        while rows:
            chunk, first, last = self.spans.popleft()
            if first + rows < last:
                self.spans.appendleft((chunk, first + rows, last))
                return
            rows -= last - first

    def keep(self, leftover: Iterable[Row | AxesRow]) -> None:
        """The run ends early: keep what came back, and what was still to come back."""
        if self._sink is not None:
            for row in leftover:
                if self.land(row):
                    self.write()
            self.write()
            self._sink.keep()

    def finish(self, stats: BulkStats) -> TableResult:
        """The result, once every row has come back; its counts are of answers: a row has one on each axis.

        Raises ErrorRatioExceededError when too many failed, UnsettledRowsError when some may have been paid without
        an answer; the output is complete all the same.
        """
        assert self._sink is not None  # noqa: S101
        resumed, each = self.resumed, len(self.axes) or 1
        if self.axes:
            stats.labels = self._labels
        if self._parts is not None:
            for part in self._parts.earlier:
                stats.rows += (part.stop - part.start) * each
                for counts, more in (
                    (stats.statuses, part.statuses), (stats.labels, part.labels), (stats.routes, part.routes)
                ):  # fmt: skip
                    _add(counts, more)
        stats.reused += resumed * each
        if self.total is not None and stats.rows != self.total * each:
            raise refuse(f"{self.table.name} had {self.total} rows, and {stats.rows / each:g} came out: run it again")
        stats.check()
        frame = self._sink.finish()
        stats.total, stats.output = stats.rows, None  # nothing waits beside it any more
        output = None if self.output is None else self.output.name
        columns = (*self.table.columns, *self.shape.names)
        result = TableResult(stats, stats.rows // each, resumed, output, frame, columns, self.shape.names)
        kept_so = self.options.get("on_unknown") == "park"
        check_ending(result, self.ratio, parked=kept_so, remembered=self._remembered, axes=bool(self.axes))
        return result


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        counts[name] = counts.get(name, 0) + number
