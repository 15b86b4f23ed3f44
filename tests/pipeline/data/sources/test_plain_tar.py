"""Malicious tars: members that could run, point elsewhere, loop or grow are refused by name."""

import io
import re
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pipeline.data.sources.plain_tar import list_tar, read_tar
from pipeline.errors import DataError

BLOCK = 512
LARGEST = {"txt": 5, "json": 5}


def info_of(name, kind=tarfile.REGTYPE, size=0, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def raw(*pieces):
    """Build a tar of arbitrary headers and contents, which tarfile would not write."""
    blocks = b"".join(
        piece.tobuf(tarfile.GNU_FORMAT) if isinstance(piece, tarfile.TarInfo) else padded(piece)
        for piece in pieces
    )
    return blocks + bytes(2 * BLOCK)


def padded(content):
    return content + bytes(-len(content) % BLOCK)


def pax(**fields):
    """A pax header with these records."""
    records = b""
    for key, value in fields.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(rest) + 1
        while length != len(str(length)) + len(rest):
            length = len(str(length)) + len(rest)
        records += str(length).encode() + rest
    return info_of("pax", tarfile.XHDTYPE, len(records)), records


def negative(name):
    """A header whose size is -512, in base 256; its checksum is right."""
    header = bytearray(info_of(name).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def plain(name, content=b"x"):
    return info_of(name, size=len(content)), content


def refusal(tar):
    with pytest.raises(DataError) as caught:
        list_tar(tar)
    said = str(caught.value)
    assert said.startswith(str(tar))
    return said.removeprefix(str(tar))


PICKLES = ("pyd", "pkl", "pickle", "pth", "pt", "PKL", "seg.pkl", "bin")
UNKNOWN = ("a.py", "a.sh", "a.gz", "a.json.gz", "a.url", "README", "a.png~")
OUTSIDE = (
    *("../a.png", "/a.png", "b/../../a.png", "..", "/", "b/..", "c:\\a.png", "..\\a.png"),
    "x.y\na/b.png",
)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        *((f"a.{kind}", rf"'a\.{kind}' may be a pickle") for kind in PICKLES),
        *((name, f"'{name}' has an unsupported type.*cls, jpeg, jpg, json") for name in UNKNOWN),
        *((name, "unsafe path|is not a plain file") for name in OUTSIDE),
        # which webdataset loses
        *((name, "has no key before its first dot") for name in (".png", "b/.png", "._a.jpg")),
    ],
)
def test_members_that_could_run_or_point_outside_or_get_lost_are_refused_by_name(
    tmp_path, name, complaint
):
    tar = tmp_path / "x.tar"
    tar.write_bytes(raw(*plain(name), *plain("b.txt")))
    assert re.search(complaint, refusal(tar))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
@pytest.mark.parametrize("name", ["a.png", "a.txt", "anything"])
def test_links_and_devices_are_refused_whatever_they_are_called(tmp_path, kind, name):
    tar = tmp_path / "x.tar"
    tar.write_bytes(raw(info_of(name, kind, linkname="/etc/hostname")))
    assert f"{name!r} is not a plain file" in refusal(tar)


def test_a_duplicate_key_is_refused_even_if_others_lie_between(tmp_path):
    tar = tmp_path / "x.tar"
    tar.write_bytes(raw(*plain("a.txt"), *plain("b.txt"), *plain("a.TXT")))
    assert "duplicate member 'a.TXT'" in refusal(tar)


def test_members_of_a_sample_that_lie_apart_are_refused(tmp_path):
    tar = tmp_path / "x.tar"
    tar.write_bytes(raw(*plain("a.txt"), *plain("b.txt"), *plain("a.png")))
    assert "'a.png' is not next to the other members of its sample" in refusal(tar)


def test_the_first_name_of_a_tar_cannot_start_an_lzma_stream(tmp_path):
    tar = tmp_path / "x.tar"
    header = bytearray(info_of("]", tarfile.XHDTYPE, 11).tobuf(tarfile.GNU_FORMAT))
    header[:4] = b"]\0\0\x80"
    tar.write_bytes(raw(bytes(header), b"11 path=a.b", *plain("a.txt")))
    assert "is compressed by lzma" in refusal(tar)


def test_members_are_read_in_order_and_larger_or_other_ones_are_skipped(tmp_path):
    tar = tmp_path / "x.tar"
    tar.write_bytes(
        raw(
            *plain("__a__/k.txt", b"one"),
            *plain("__a__/k.JSON", b"{}"),
            *plain("b.txt", b"long text"),
            *plain("c.npy", b"numbers"),
            *plain("d.cls", b"7"),
            *plain("d.txt", b"two"),
        )
    )
    read = [(key, sorted(parts), contents) for key, parts, contents in read_tar(tar, LARGEST)]
    assert read == [
        ("__a__/k", ["json", "txt"], {"txt": b"one", "json": b"{}"}),
        ("b", ["txt"], {}),
        ("c", ["npy"], {}),
        ("d", ["cls", "txt"], {"txt": b"two"}),
    ]


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_compressed_tar_is_refused_whatever_it_is_called(tmp_path, mode, name):
    tar = tmp_path / "x.tar"
    with tarfile.open(tar, mode) as archive:
        archive.addfile(info_of("a.txt", size=10**6), io.BytesIO(bytes(10**6)))
    assert f"is compressed by {name}" in refusal(tar)


SPARSE_10 = pax(GNU__sparse__major=1, GNU__sparse__minor=0, GNU__sparse__realsize=2**40)


@pytest.mark.parametrize(
    ("pieces", "complaint"),
    [
        ((info_of("a.txt", tarfile.GNUTYPE_SPARSE),), "holds the sparse file 'a.txt'"),
        ((*SPARSE_10, *plain("a.txt", b"9999999999\n")), "holds a sparse file"),
        ((*pax(GNU__sparse__map="0,1"), *plain("a.txt")), "holds a sparse file"),
        ((info_of("x", tarfile.XHDTYPE, 9000), bytes(9000)), "has a header of 9000 bytes"),
        ((info_of("x", tarfile.GNUTYPE_LONGNAME, 2**33),), "has a header of 8589934592 bytes"),
        ((info_of("x", tarfile.GNUTYPE_LONGLINK, 9000), bytes(9000)), "has a header of 9000"),
        ((info_of("x", tarfile.XGLTYPE, 10), b"10 a=bcd\n"), "has a global pax header"),
        ((negative("a.txt"),), "has a member of negative size"),
        ((*pax(size=-1024), *plain("a.txt")), "is not a plain file"),
        ((*pax(path="../../a.txt"), *plain("a.txt")), "unsafe path"),
        ((*pax(path="a.pkl"), *plain("a.txt")), "may be a pickle"),
        (pax(comment="x") * 2000, "is not a readable tar"),
    ],
)
def test_headers_that_would_make_tarfile_loop_or_grow_are_refused(tmp_path, pieces, complaint):
    tar = tmp_path / "x.tar"
    tar.write_bytes(raw(*pieces))
    assert complaint in refusal(tar)


def test_honest_long_names_are_read(tmp_path):
    tar = tmp_path / "x.tar"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tar, "w", format=form) as archive:
            archive.addfile(info_of("./deep", tarfile.DIRTYPE))
            archive.addfile(info_of(f"./deep/{'k' * 300}.txt", size=1), io.BytesIO(b"x"))
        assert list(list_tar(tar)) == [f"./deep/{'k' * 300}"]


def test_samples_after_the_end_are_not_lost_silently(tmp_path):
    tar = tmp_path / "x.tar"
    whole = raw(*plain("a.txt"), *plain("b.txt"), *plain("c.txt"))
    tar.write_bytes(whole[:1024] + bytes(512) + whole[1536:])  # the header of b is blank
    assert "is damaged at byte 1024" in refusal(tar)
    tar.write_bytes(whole + raw(*plain("d.txt")))
    assert "concatenated tars" in refusal(tar)


_CHILD = """
import resource, sys
from pathlib import Path
from pipeline.data.sources.plain_tar import list_tar
from pipeline.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list_tar(Path(sys.argv[1]))
except DataError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_header_bomb_takes_no_memory(tmp_path):
    tar = tmp_path / "x.tar"
    with tar.open("wb") as file:  # 2 GB of pax header, in a file that has holes
        file.write(info_of("x", tarfile.XHDTYPE, 2**31).tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**31 + 4096)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tar)],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (60, 60)),
    )
    said, grown = done.stdout.splitlines()
    assert "has a header of 2147483648 bytes" in said
    assert int(grown) < 20_000  # kB
