"""A corpus behind a real HTTP server is read block by block, once, and gives the rows of the local one."""

import os
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from codemix_megatron.corpus.indexed import IndexedWriter
from codemix_megatron.errors import CorpusError
from codemix_megatron.mixture import remote
from codemix_megatron.mixture.loss_masks import LossMask
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata, loss_mask_path


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves files and byte ranges, and counts the bytes it gave."""

    given = 0

    def do_GET(self):
        data = open(self.translate_path(self.path), "rb").read()  # noqa: SIM115
        begin, end = 0, len(data) - 1
        asked = self.headers.get("Range")
        if asked:
            low, high = asked.removeprefix("bytes=").split("-")
            begin, end = int(low), min(int(high or end), end)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{end}/{len(data)}")
        self.send_header("Content-Length", str(end - begin + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(data[begin : end + 1])
        type(self).given += end - begin + 1

    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Return (local manifest, URL of the same corpus)."""
    (tmp_path / "store").mkdir()
    prefix = str(tmp_path / "store" / "corpus")
    tokens = np.arange(60_000, dtype=np.uint16)
    with IndexedWriter(prefix, np.uint16) as writer:
        writer.add(tokens)
        writer.seal()
        writer.publish()
        sums = {"bin_sha256": writer.bin_sha256, "idx_sha256": writer.idx_sha256}
    counts = {"num_documents": 1, "num_tokens": 60_000, "num_bytes": 1, "train_documents": 1, "train_tokens": 50_000, "train_bytes": 1}
    metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=60_000, end_of_document_id=0)
    origin = {"documents": [], "input_fingerprint": "", "held_out_share": 0.1, "tokenizer": metadata}
    manifest = CorpusManifest(name="corpus", kind="text", prefix=prefix, dtype="uint16", **counts, **sums, **origin)
    manifest.write()
    monkeypatch.setenv("CODEMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "BLOCK_BYTES", 4096)
    RangeHandler.given = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, directory=str(tmp_path / "store"))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield manifest, f"http://127.0.0.1:{server.server_port}/corpus"
        server.shutdown()


def test_rows_equal_the_local_ones_and_each_block_comes_once(served):
    local, url = served
    where, which = np.zeros(40, dtype=int), np.arange(0, 400, 10)
    expected = SequenceReader([local], 100).read(where, which)
    manifest = CorpusManifest.read(url)
    reader = SequenceReader([manifest], 100)
    before = RangeHandler.given
    assert np.array_equal(reader.read(where, which), expected)
    fetched = RangeHandler.given - before
    assert 0 < fetched <= 60_000 * 2
    assert np.array_equal(SequenceReader([manifest], 100).read(where, which), expected)
    assert RangeHandler.given - before == fetched, "a block that was here already was fetched again"
    assert np.array_equal(reader.held_out(0, 3), SequenceReader([local], 100).held_out(0, 3))


def test_cache_of_which_files_were_removed_is_fetched_again(served, tmp_path):
    """Whoever clears a cache by age or size leaves some files: what says that a block is there may not outlive the block."""
    local, url = served
    manifest, where, which = CorpusManifest.read(url), np.zeros(8, dtype=int), np.arange(0, 400, 50)
    expected = SequenceReader([local], 100).read(where, which)
    SequenceReader([manifest], 100).read(where, which)
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        path.unlink()
        assert np.array_equal(SequenceReader([manifest], 100).read(where, which), expected), f"without {path.name}"
        path.write_bytes(data)


def test_unreachable_store_is_told_with_its_url(served):
    local, url = served
    manifest = CorpusManifest.read(url)
    with pytest.raises(CorpusError, match="gone.bin: cannot be reached"):
        SequenceReader([type(manifest)(**{**vars(manifest), "prefix": url.replace("corpus", "gone")})], 100)
    with pytest.raises(CorpusError, match="no prepared corpus|not a readable corpus manifest"):
        CorpusManifest.read(url.replace("corpus", "gone"))


def test_file_of_another_size_than_its_manifest_promises_is_refused(served):
    """Local files are looked at when the manifest is read; behind a URL, tokens of another corpus were trained on."""
    local, url = served
    manifest = CorpusManifest.read(url)
    with open(f"{local.prefix}.bin", "ab") as handle:
        handle.write(b"more")
    with pytest.raises(CorpusError, match=r"corpus\.bin: 120004 bytes, its manifest promises 120000"):
        SequenceReader([manifest], 100)


def test_block_that_can_no_longer_be_read_ends_the_run_as_a_fault_of_the_machine(served):
    local, url = served
    reader = SequenceReader([CorpusManifest.read(url)], 100)
    Path(f"{local.prefix}.bin").unlink()
    with pytest.raises(CorpusError, match=r"corpus\.bin: bytes 0 to 4096 cannot be read") as caught:
        reader.read(np.zeros(1, dtype=int), np.zeros(1, dtype=int))
    assert caught.value.exit_code == 1


def test_mask_of_a_corpus_that_was_prepared_again_is_fetched_again(served):
    """The checksum keeps bits of the earlier one from hiding tokens of the later one."""
    local, url = served
    manifest, path = CorpusManifest.read(url), Path(loss_mask_path(local.prefix))
    for byte, name in ((0b01010101, "first"), (0b00001111, "second")):
        path.write_bytes(bytes([byte]) * (60_000 // 8))
        mask = LossMask(replace(manifest, loss_mask_sha256=name))
        wanted = [bool(byte >> (token % 8) & 1) for token in range(13, 40)]
        assert mask.is_learned(13, 27).tolist() == wanted


def test_mask_leaves_no_file_open(served):
    local, _ = served
    Path(loss_mask_path(local.prefix)).write_bytes(bytes(60_000 // 8))
    mask = LossMask(local)
    descriptor = mask.descriptor
    os.fstat(descriptor)
    del mask
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
