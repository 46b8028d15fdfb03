"""Readers of tables, for hostile input."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import random
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl

from torture.hostile.engine import Reader
from torture.hostile.mutations import NUMBERS, TEXTS, mutate_bytes, mutate_json, mutate_text, smaller_json
from vicinal.lab.data import apart, keel, table_files, tables, uci
from vicinal.lab.data.read_options import AS_IT_IS, ReadOptions

ROWS = 24

_OPTIONS = (
    AS_IT_IS,
    AS_IT_IS,
    AS_IT_IS,
    ReadOptions(header=False),
    ReadOptions(decimal=","),
    ReadOptions(separator=";"),
    ReadOptions(separator=" "),
    ReadOptions(separator="\t"),
    ReadOptions(missing=("-999", "u", "\x1b", "nan", "1e400")),
    ReadOptions(encoding="cp1252"),
    ReadOptions(encoding="utf-16-le"),
    ReadOptions(encoding="utf-7"),
    ReadOptions(sheet="Sheet1"),
    ReadOptions(categorical=("a",), parse=("b",)),
    ReadOptions(parse=("a", "b", "d"), dates="dmy"),
    ReadOptions(numeric=("a", "b")),
)


def _records() -> list[dict[str, Any]]:
    return [
        {
            "a": None if i == 5 else i * 1.5 - 7,
            "b": f"{i % 7}",
            "c": "uvw"[i % 3],
            "d": f"20{10 + i}-0{1 + i % 9}-{10 + i % 18}",
            "e": bool(i % 2),
            "y": ("yes", "no")[i % 2],
        }
        for i in range(ROWS)
    ]


def _csv(separator: str = ",", end: str = "\n") -> bytes:
    rows = _records()
    lines = [separator.join(rows[0]), *(separator.join("" if v is None else str(v) for v in r.values()) for r in rows)]
    return (end.join(lines) + end).encode()


def _csv_seeds() -> list[bytes]:
    quoted = _csv().replace(b"u", b'"u ""v"", \n w"')
    spelled = b"p,m,d,u,y\n" + b"".join(
        b"%d%%,$%d.50,%d/02/2020,%d kg,%d\n" % (i, i, 1 + i, i, i % 2) for i in range(ROWS)
    )
    wide = _csv().decode().encode("utf-16")
    return [
        _csv(),
        _csv(";", "\r\n").replace(b".", b","),
        _csv("\t"),
        _csv("|", "\r"),
        quoted,
        spelled,
        wide,
        _csv(" "),
    ]


def _chosen(raw: bytes) -> ReadOptions:
    """Choose how a file is read by its content, so that an input is the file alone."""
    return _OPTIONS[zlib.crc32(raw) % len(_OPTIONS)]


def _read_frame(path: Path) -> object:
    return table_files.read(path, _chosen(path.read_bytes()), [])


def _read_apart(path: Path) -> object:
    """Read by the other process, which stays for the next files of this one."""
    if not apart._holders:
        _KEPT.enter_context(apart.kept())
    return table_files.read(path, AS_IT_IS if path.suffix != ".xlsx" else _chosen(path.read_bytes()))


_KEPT = contextlib.ExitStack()
_APART = frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork_exec"})


def _load(path: Path) -> object:
    draw = random.Random(zlib.crc32(path.read_bytes()))
    return tables.load(
        str(path),
        target=draw.choice(("y", "y", "y", "a", "b", "c")),
        task=draw.choice((None, None, "classification", "regression")),
        drop=draw.choice(((), (), ("c",), ("a,b",))),
        reading=draw.choice(_OPTIONS),
        drop_missing_target=draw.random() < 0.3,
        min_class=draw.choice((0, 0, 2, 10**9)),
        group=draw.choice((None, None, None, "b", "e")),
        time=draw.choice((None, None, None, "d", "a")),
        test=str(path) if draw.random() < 0.1 else None,
    )


# ---- ARFF, JSON ------------------------------------------------------------------------------------------------------

_ARFF_TOKENS = [
    *(b"@relation", b"@attribute", b"@data", b"@end", b"{", b"}", b"{0 1, 1 v}", b"numeric", b"real [0,1]", b"string"),
    *(b"date", b'date "yyyy-MM-dd"', b"date 'QQ'", b"relational", b"integer", b"?", b"%", b"'", b'"', b"\\'", b", {5}"),
]


def _arff() -> list[bytes]:
    head = b"%% c\n@relation r\n@attribute a numeric\n@attribute 'b c' {u,v,'w x'}\n@attribute s string\n"
    date = b'@attribute d date "yyyy-MM-dd"\n'
    body = b"".join(b"%d.5,%s,'t %d'\n" % (i, (b"u", b"v", b"'w x'")[i % 3], i) for i in range(ROWS))
    sparse = b"".join(b"{0 %d, 1 %s, 2 'q'}\n" % (i, (b"v", b"'w x'")[i % 2]) for i in range(1, ROWS))
    dated = b"".join(b"%d,u,t,2020-01-%02d\n" % (i, 1 + i) for i in range(ROWS))
    return [head + b"@data\n" + body, head + b"@data\n" + sparse, head + date + b"@data\n" + dated]


def _json() -> list[bytes]:
    rows = _records()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    by_row = {name: {str(i): row[name] for i, row in enumerate(rows)} for name in rows[0]}
    lines = "\n".join(json.dumps(row) for row in rows)
    return [json.dumps(rows).encode(), lines.encode(), json.dumps(columns).encode(), json.dumps(by_row).encode()]


# ---- Parquet, Arrow --------------------------------------------------------------------------------------------------


def _frames() -> list[pl.DataFrame]:
    plain = pl.DataFrame(_records()).with_columns(
        pl.col("c").cast(pl.Categorical), pl.col("d").str.to_date(strict=False), pl.lit(3).cast(pl.Int8).alias("i")
    )
    return [
        plain,
        pl.DataFrame({"a": range(300), "y": ["u", "v", None] * 100, "l": [[1, 2], []] * 150}),
        pl.DataFrame({"a": [0.5] * 1000, "t": ["long text " * 3] * 1000, "y": [i % 2 for i in range(1000)]}),
        pl.DataFrame({"s": [{"k": 1, "m": "x"}] * 20, "b": [b"\0\1"] * 20, "y": list(range(20))}),
    ]


def _parquet() -> list[bytes]:
    made = []
    for frame in _frames():
        for compression in ("uncompressed", "snappy", "zstd", "gzip", "lz4", "brotli"):
            file = io.BytesIO()
            frame.write_parquet(file, compression=compression, row_group_size=100)
            made.append(file.getvalue())
    return made


def _arrow(stream: bool) -> list[bytes]:
    made = []
    for frame in _frames():
        for compression in ("uncompressed", "lz4", "zstd"):
            file = io.BytesIO()
            write = frame.write_ipc_stream if stream else frame.write_ipc
            write(file, compression=compression)
            made.append(file.getvalue())
    return made


# ---- Excel, packed files ---------------------------------------------------------------------------------------------

_BOOK = {
    "[Content_Types].xml": b'<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/'
    b'2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    b'<Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application'
    b'/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>',
    "_rels/.rels": b'<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    b'<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    b'Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": b'<?xml version="1.0"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    b'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Sheet1" '
    b'sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": b'<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006'
    b'/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
    b'worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/'
    b'officeDocument/2006/relationships/sharedStrings" Target="sharedStrings.xml"/><Relationship Id="rId3" Type="http://'
    b'schemas.openxmlformats.org/officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>',
    "xl/sharedStrings.xml": b'<?xml version="1.0"?><sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    b'count="4" uniqueCount="4"><si><t>a</t></si><si><t>y</t></si><si><t>yes</t></si><si><r><t>n</t></r><r><t>o</t></r></si>'
    b"</sst>",
    "xl/styles.xml": b'<?xml version="1.0"?><styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    b'<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy-mm-dd"/></numFmts><cellXfs count="2"><xf numFmtId="0"/>'
    b'<xf numFmtId="164"/></cellXfs></styleSheet>',
}
_SHEET = "xl/worksheets/sheet1.xml"
_MARK = b"\n====PART====\n"


def _sheet() -> bytes:
    head = b'<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    head += b'<dimension ref="A1:D%d"/><sheetData>' % (ROWS + 1)
    rows = [b'<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>b</t></is></c><c r="C1" t="str"><v>d</v>'
            b'</c><c r="D1" t="s"><v>1</v></c></row>']  # fmt: skip
    rows += [
        b'<row r="%d"><c r="A%d"><v>%d.5</v></c><c r="B%d" t="b"><v>%d</v></c><c r="C%d" s="1"><v>%d</v></c>'
        b'<c r="D%d" t="s"><v>%d</v></c></row>' % (i, i, i, i, i % 2, i, 44000 + i, i, 2 + i % 2)
        for i in range(2, ROWS + 2)
    ]
    return head + b"".join(rows) + b"</sheetData></worksheet>"


def _book_content() -> list[bytes]:
    """Return a workbook's parts that are changed, one below another, with marks between."""
    parts = {**_BOOK, _SHEET: _sheet()}
    return [_MARK.join(name.encode() + b"\n" + content for name, content in parts.items())]


def _book(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in content.split(_MARK):
            name, _, body = part.partition(b"\n")
            archive.writestr(zipfile.ZipInfo(name.decode("latin-1").replace("\0", "_")[:200] or "x"), body)
    return file.getvalue()


_XML_TOKENS = [
    *(
        b'r="XFD1048576"',
        b'r="A1048576"',
        b'ref="A1:XFD1048576"',
        b'r="A0"',
        b'r=""',
        b'r="A4294967296"',
        b't="s"',
        b't="e"',
    ),
    *(
        b't="d"',
        b'count="4294967295"',
        b"<v>99999999</v>",
        b"<v>-1</v>",
        b"<v>1e999</v>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    ),
    *(
        b"&b;",
        b"&#0;",
        b"&#x110000;",
        b"<![CDATA[",
        b"]]>",
        b"<row>",
        b"<c>",
        b'<c r="ZZZZ1"/>',
        b"_x0000_",
        b"<mergeCell",
    ),
    *(b'spans="1:16384"', b's="65535"', b'numFmtId="4294967295"', b"../../../etc/passwd", b"xl/workbook.xml", *NUMBERS),
]


def _packed() -> list[bytes]:
    import zstandard

    csv = _csv()
    made = [
        gzip.compress(csv, mtime=0),
        bz2.compress(csv),
        lzma.compress(csv),
        zstandard.ZstdCompressor().compress(csv),
    ]
    made += [gzip.compress(csv[:99], mtime=0) + gzip.compress(csv[99:], mtime=0), gzip.compress(made[1], mtime=0)]
    return made


def _zipped() -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr(zipfile.ZipInfo("t.csv"), _csv())
            archive.writestr(zipfile.ZipInfo("README"), b"x", method)
        made.append(file.getvalue())
    inner = io.BytesIO()
    with (
        zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("t.csv", "w", force_zip64=True) as member,
    ):
        member.write(made[1])
    return [*made, inner.getvalue()]


_ZIP_TOKENS = [b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\1\0\x10\0", b"t.csv", b"..\\t.csv", b"/t.csv"]
_ZIP_TOKENS += [b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x63\0", b"\xff\0", b"xl/workbook.xml"]


# ---- folders of parts, and what others published ---------------------------------------------------------------------


def _part_specs() -> list[bytes]:
    csv = _csv().decode()
    more = csv.split("\n", 1)[0] + "\n" + "\n".join(csv.splitlines()[1:9]) + "\n"
    return [
        json.dumps({"part-0.csv": csv, "part-1.csv": more, "_SUCCESS": ""}).encode(),
        json.dumps({"k=1/p.csv": csv, "k=2/p.csv": more, "k=__HIVE_DEFAULT_PARTITION__/p.csv": more}).encode(),
        json.dumps({"a.jsonl": '{"a": 1, "y": 2}\n' * 9, "b.jsonl": '{"a": 1.5, "y": 2}\n' * 9}).encode(),
    ]


def _folder(raw: bytes, folder: Path) -> Path:
    """Make the files that a dict of names and contents describes; names that lead elsewhere are brought back."""
    place = folder / "parts"
    place.mkdir()
    try:
        spec = json.loads(raw)
    except (ValueError, RecursionError):
        spec = {"p.csv": raw.decode("latin-1")}
    for name, content in spec.items() if isinstance(spec, dict) else ():
        steps = [step.replace("\0", "_")[:100] for step in str(name).split("/") if step not in ("", ".", "..")][:8]
        path = place.joinpath(
            *[step.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for step in steps]
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(str(content)[:100_000].encode("utf-8", "surrogatepass"))
        except OSError:  # two names that exclude one another
            continue
    return place


def _iris() -> list[bytes]:
    return [b"".join(b"%d.1,3.5,1.%d,0.2,Iris-%s\n" % (i % 7, i % 9, (b"a", b"b", b"c")[i % 3]) for i in range(150))]


def _at(*names: str) -> Any:
    def deliver(raw: bytes, folder: Path) -> Path:
        path = folder.joinpath(*names)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        return folder

    return deliver


def _keel(folder: Path) -> object:
    with mock.patch.object(keel, "_folder", return_value=folder):
        return keel.load("iris")


def _mixed(raw: bytes, rng: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    return (mutate_text if rng.random() < 0.5 else mutate_bytes)(raw, rng, others, tokens)


READERS: list[Reader] = [
    Reader(
        "delimited",
        _csv_seeds,
        _read_frame,
        mutate_text,
        allowed=_APART,
        suffix=".csv",
        tokens=[b"sep=;\n", b'"', *NUMBERS],
    ),
    Reader(
        "table",
        _csv_seeds,
        _load,
        mutate_text,
        allowed=_APART,
        suffix=".csv",
        tokens=[b'"', b"yes", b"no", *NUMBERS, *TEXTS[:30]],
    ),
    Reader("arff", _arff, _read_frame, mutate_text, allowed=_APART, suffix=".arff", tokens=_ARFF_TOKENS),
    Reader("json", _json, _read_frame, mutate_json, allowed=_APART, suffix=".json", smaller=smaller_json),
    Reader("jsonl", lambda: _json()[1:2], _read_frame, mutate_json, allowed=_APART, suffix=".jsonl"),
    Reader(
        "parquet", _parquet, _read_apart, tokens=[b"PAR1", b"PARE", *NUMBERS[:3]], allowed=_APART, suffix=".parquet"
    ),
    Reader(
        "arrow", partial(_arrow, False), _read_apart, tokens=[b"ARROW1", b"\xff" * 4], allowed=_APART, suffix=".arrow"
    ),
    Reader(
        "arrow-stream",
        partial(_arrow, True),
        _read_apart,
        tokens=[b"ARROW1", b"\xff" * 4],
        allowed=_APART,
        suffix=".ipc",
    ),
    Reader("excel", _book_content, _read_apart, _mixed, tokens=_XML_TOKENS, wrap=_book, allowed=_APART, suffix=".xlsx"),
    Reader("packed", _packed, _read_frame, allowed=_APART, suffix=".csv"),
    Reader("zip", _zipped, _read_frame, tokens=_ZIP_TOKENS, allowed=_APART, suffix=".zip"),
    Reader(
        "table-folder",
        _part_specs,
        table_files.read,
        mutate_json,
        allowed=_APART,
        deliver=_folder,
        smaller=smaller_json,
    ),
    Reader(
        "uci", _iris, lambda root: uci.load("iris", root=root), mutate_text, deliver=_at("uci", "iris", "iris.data")
    ),
    Reader("keel", _iris, _keel, mutate_text, deliver=_at("iris.dat")),
]
