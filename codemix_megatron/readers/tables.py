"""Parquet and Arrow files: one document per row, row groups and batches read one after the other."""

from collections.abc import Iterator
from contextlib import contextmanager

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.conversations import COLUMNS, FORMS
from codemix_megatron.readers.documents import BadDocument, Document, Position, Span
from codemix_megatron.readers.read_ranges import RangeHash
from codemix_megatron.readers.record_documents import ConversationKeys, RecordKeys, record_document
from codemix_megatron.readers.streams import open_input

__all__ = ["ARROW_SUFFIXES", "PARQUET_SUFFIXES", "divide_parquet", "read_arrow", "read_parquet"]

PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")
BATCH_ROWS = 64  # sources of a megabyte each are common
ARROW_FILE = b"ARROW1"
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
INVALID = BadDocument("", "invalid UTF-8")


def read_parquet(path, name: str, position: Position, *, keys: RecordKeys, span: Span | None = None) -> Iterator[Document | BadDocument]:
    """Yield one document per row of the row groups in `span`, or of all; raises CorpusError for a damaged file."""
    with opened(path, "Parquet", position.hashed) as stream:
        import pyarrow.parquet as parquet

        file = parquet.ParquetFile(stream, pre_buffer=False)
        groups = range(span.begin, span.end) if span else range(file.num_row_groups)
        columns = wanted_columns(path, file.schema_arrow.names, keys)
        row = sum(file.metadata.row_group(group).num_rows for group in range(groups.start))
        for group in groups:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                yield from batch_documents(batch, path, row, keys)
                row += batch.num_rows
            position.bytes_read += group_bytes(file.metadata, group)


def divide_parquet(path, num_bytes: int, part_bytes: int) -> list[Span]:
    """Return spans of row groups of about `part_bytes` each; their sizes add up to that of the file."""
    import pyarrow.parquet as parquet

    with opened(path, "Parquet") as stream:
        metadata = parquet.ParquetFile(stream).metadata
    spans, begin, size, left = [], 0, 0, num_bytes
    for group in range(metadata.num_row_groups):
        size += group_bytes(metadata, group)
        if size >= part_bytes and group + 1 < metadata.num_row_groups:
            spans.append(Span(begin, group + 1, size))
            begin, size, left = group + 1, 0, left - size
    return [*spans, Span(begin, metadata.num_row_groups, left)]


def group_bytes(metadata, group: int) -> int:
    """Return the bytes a row group takes in the file."""
    columns = metadata.row_group(group)
    return sum(columns.column(i).total_compressed_size for i in range(columns.num_columns))


def read_arrow(path, name: str, position: Position, *, keys: RecordKeys) -> Iterator[Document | BadDocument]:
    """Yield one document per row of an Arrow file or stream (as `datasets` writes); raises CorpusError for a damaged one."""
    with opened(path, "Arrow", position.hashed) as stream:
        import pyarrow

        is_file = stream.read(len(ARROW_FILE)) == ARROW_FILE
        if not is_file:
            stream.seek(-len(END_OF_STREAM), 2)
            if stream.read() != END_OF_STREAM:
                raise CorpusError(f"{path}: no Arrow file, or a stream that was cut off; copy it again or take it out of `documents`")
        stream.seek(0)
        reader = pyarrow.ipc.open_file(stream) if is_file else pyarrow.ipc.open_stream(stream)
        columns = wanted_columns(path, reader.schema.names, keys)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        row = 0
        for batch in batches:
            for begin in range(0, batch.num_rows, BATCH_ROWS):
                yield from batch_documents(batch.slice(begin, BATCH_ROWS).select(columns), path, row + begin, keys)
            row += batch.num_rows
            position.bytes_read = stream.tell()


@contextmanager
def opened(path, what: str, hashed: RangeHash | None = None):
    """Give a table's stream; errors of the library become CorpusError."""
    import pyarrow

    with open_input(path, hashed) as stream:
        try:
            yield stream
        except (pyarrow.ArrowException, OSError) as fault:
            first_line = str(fault).split("\n")[0][:200]
            raise CorpusError(f"{path}: damaged, or no {what} file ({first_line}); copy it again or take it out of `documents`") from None


def wanted_columns(path, names: list[str], keys: RecordKeys) -> list[str]:
    """Return the columns to read; raises CorpusError when none holds the text."""
    wanted = dict.fromkeys(key if key in names else key.partition(".")[0] for key in keys.all)  # doc.text is in the column doc
    if isinstance(keys, ConversationKeys):
        if not set(COLUMNS) & set(names):
            raise CorpusError(f"{path}: no column of a conversation; there are {', '.join(names)}, wanted are {FORMS}")
    elif keys.text not in names and keys.text.partition(".")[0] not in names:
        raise CorpusError(f"{path}: no column {keys.text!r}; there are {', '.join(names)}; set corpora.NAME.text_key")
    return [name for name in wanted if name in names]


def batch_documents(batch, path, row: int, keys: RecordKeys) -> Iterator[Document | BadDocument]:
    """Yield the documents of a batch whose first row is row number `row`; locations count from 1, as lines do."""
    columns = [column_values(column) for column in batch.columns]
    for number, values in enumerate(zip(*columns, strict=True), row + 1):
        location = f"{path}:{number}"
        if any(value is INVALID for value in values):
            yield BadDocument(location, INVALID.reason)
        else:
            yield record_document(dict(zip(batch.schema.names, values, strict=True)), location, keys)


def column_values(column) -> list:
    """Return the values of a column, text of a binary one; INVALID stands for a string that is not UTF-8."""
    import pyarrow

    try:
        return [decoded(value) if isinstance(value, bytes) else value for value in column.to_pylist()]
    except UnicodeDecodeError:
        return [decoded(value) for value in column.cast(pyarrow.large_binary()).to_pylist()]


def decoded(value: bytes | None):
    """Return the string some bytes hold, or INVALID."""
    try:
        return value if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return INVALID
