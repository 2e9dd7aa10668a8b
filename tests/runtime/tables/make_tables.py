"""The files beside this script, which the tests of rows read (tests/runtime/support/table_files.h): the rows of rows.jsonl as every other kind of table.

They are made anew by `python3 tests/runtime/tables/make_tables.py`, with pyarrow 26.0.1, datasets 5.2.0 and zstandard from PyPI.
"""
import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

HERE = Path(__file__).parent
HARD = ["", ' "quoted" \\n', " – naïve 中文 \U0001f3ad", "\ttab\nline", " {brace} [[double]]"]
ROWS = [{
    "number": i,
    "text": f"Row {i}{HARD[i % len(HARD)]}",
    "title": None if i in (7, 20) else f"Title {i}",
    "answer": (None, "yes", "", "no")[i % 4],
    "about": {"place": f"scene {i % 3}", "line": i * 10},
    "tags": [f"t{k}" for k in range(i % 3)],
    "score": i / 8,
    "flag": i % 2 == 0,
} for i in range(40)]
SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string()), ("title", pa.string()), ("answer", pa.string()),
                    ("about", pa.struct([("place", pa.string()), ("line", pa.int32())])), ("tags", pa.list_(pa.string())),
                    ("score", pa.float64()), ("flag", pa.bool_())])
TABLE = pa.Table.from_pylist(ROWS, schema=SCHEMA)


def with_texts(kind):
    """The table with its texts of another type."""
    out = TABLE
    for name in ("text", "title", "answer"):
        column = out[name].dictionary_encode() if kind == "dictionary" else out[name].cast(kind)
        out = out.set_column(out.schema.get_field_index(name), name, column)
    return out


def stream(path, table, **options):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=13)


def many(path, maker, codec):
    """48 batches of 2 MiB: 64 rows each, of equal texts."""
    batch = pa.record_batch([["of many " * 4096] * 64], schema=pa.schema([("text", pa.string())]))
    with pa.OSFile(str(path), "wb") as sink, maker(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        for _ in range(48):
            writer.write_batch(batch)


def main():
    (HERE / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=row["number"] % 2 == 0) + "\n" for row in ROWS), encoding="utf-8")
    for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli"):
        pq.write_table(TABLE, HERE / f"{codec}.parquet", row_group_size=17, compression=codec, use_dictionary=codec != "none",
                       data_page_version="2.0" if codec == "zstd" else "1.0", write_page_checksum=codec == "snappy")
    for name, kind in (("large", pa.large_string()), ("dictionary", "dictionary")):
        pq.write_table(with_texts(kind), HERE / f"{name}.parquet", row_group_size=40)
    for name, kind in (("large", pa.large_string()), ("dictionary", "dictionary"), ("view", pa.string_view())):
        stream(HERE / f"{name}.arrow", with_texts(kind))
    stream(HERE / "stream.arrow", TABLE)
    stream(HERE / "packed.arrow", TABLE, compression="lz4")
    with pa.OSFile(str(HERE / "file.arrow"), "wb") as sink, pa.ipc.new_file(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(TABLE, max_chunksize=13)

    for folder in ("saved", "both"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    data = Dataset(TABLE.select(["number", "text", "title", "answer", "about"]))
    data.save_to_disk(HERE / "saved", num_shards=2)
    DatasetDict({"train": data.select(range(5)).flatten_indices(), "validation": data}).save_to_disk(HERE / "both")

    lines = (HERE / "rows.jsonl").read_bytes()
    (HERE / "rows.jsonl.gz").write_bytes(gzip.compress(lines[:1000], mtime=0) + gzip.compress(lines[1000:], mtime=0))
    packer = zstandard.ZstdCompressor()
    (HERE / "rows.jsonl.zst").write_bytes(packer.compress(lines[:1000]) + packer.compress(lines[1000:]))

    # What is large, in little room; of one the batches are compressed too.
    for name, maker, codec in (("many_stream.arrow", pa.ipc.new_stream, None), ("many_file.arrow", pa.ipc.new_file, None),
                               ("many_packed.arrow", pa.ipc.new_file, "zstd")):
        many(HERE / name, maker, codec)
        (HERE / f"{name}.zst").write_bytes(zstandard.ZstdCompressor(level=19).compress((HERE / name).read_bytes()))
        (HERE / name).unlink()

    # As GLUE has it: the numbers of classes that have names.
    sentences = {"sentence": [row["text"] for row in ROWS], "label": [row["number"] % 2 for row in ROWS], "idx": list(range(len(ROWS)))}
    names = Features({"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"]), "idx": Value("int32")})
    Dataset.from_dict(sentences, features=names).to_parquet(HERE / "classes.parquet")
    (HERE / "classes.jsonl").write_text("".join(json.dumps(dict(zip(sentences, row))) + "\n" for row in zip(*sentences.values())))


main()
