"""Exact and near duplicates decided in stages that hand files to each other, so that workers on any machines that share a folder do them.

A worker holds a partition of keys, or a bucket of components, never all documents. The decisions are those of `exact_duplicates` and
`near_duplicates`: documents that no chain of shared keys connects have no say in each other's fate, so components are decided apart.
`run` calls a function with many arguments, in this process or on a cluster (`ray_workers`), and returns the results in order.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from codemix_megatron.filters.near_duplicates import band_keys, decide, rows_per_band
from codemix_megatron.recipe.filtering import NearDuplicates

__all__ = ["Run", "find_duplicates_in_stages", "find_near_duplicates_in_stages", "in_this_process"]

Run = Callable[[Callable[..., Any], Sequence[tuple]], list]
DOCUMENTS_AT_ONCE = 1 << 17
ROWS_OF_A_PARTITION = 1 << 22  # pairs of a document and a key: 80 MB, and as much again while they are sorted
ROWS_OF_A_BUCKET = 1 << 18  # as Python objects: some 100 MB
PAIR = np.dtype([("document", "<i8"), ("key", "<u8"), ("band", "<u2")])
LABEL = np.dtype([("document", "<i8"), ("label", "<i8")])
DIGEST = np.dtype([("document", "<i8"), ("digest", "<u8", 2)])


def in_this_process(function: Callable[..., Any], calls: Sequence[tuple]) -> list:
    """Call a function with each of the arguments, one after the other."""
    return [function(*arguments) for arguments in calls]


def find_duplicates_in_stages(blocks: Iterable[np.ndarray], total: int, scratch: Path, run: Run = in_this_process) -> np.ndarray:
    """Return for each of `total` digests (blocks of V16) whether an equal one came before."""
    duplicate, begin = np.zeros(total, dtype=bool), 0
    partitions = 1 + total // ROWS_OF_A_PARTITION
    with stages(scratch) as folder:
        names = []
        for digests in blocks:
            rows = np.empty(len(digests), dtype=DIGEST)
            rows["digest"] = np.ascontiguousarray(digests).view("<u8").reshape(-1, 2)
            rows["document"] = np.arange(begin, begin + len(rows))
            names.append(f"digests-{begin}")
            spread(folder / names[-1], rows, rows["digest"][:, 0] % partitions, partitions)
            begin += len(rows)
        for found in run(repeated_digests, [(folder, names, partition) for partition in range(partitions)]):
            duplicate[found] = True
    return duplicate


def find_near_duplicates_in_stages(
    signatures: np.ndarray, spec: NearDuplicates, num_fixed: int, scratch: Path, run: Run = in_this_process
) -> np.ndarray:
    """Return, for each document in order, the earlier document it is nearly a copy of, or -1 when it stays; int64 [documents].

    `signatures` is a memory map of uint8 [documents, permutations] from the beginning of its file.
    """
    count = len(signatures.reshape(-1, spec.permutations))
    original = np.full(count, -1, dtype=np.int64)
    if not count:
        return original
    assert isinstance(signatures, np.memmap)
    path, bands = Path(str(signatures.filename)), spec.permutations // rows_per_band(spec)
    partitions = 1 + count * bands // ROWS_OF_A_PARTITION
    with stages(scratch) as folder:
        begins = range(0, count, DOCUMENTS_AT_ONCE)
        run(spread_keys, [(folder, path, spec, begin, partitions) for begin in begins])
        num_shared = sum(run(keep_shared, [(folder, [f"keys-{begin}" for begin in begins], part) for part in range(partitions)]))
        label_components(folder, count, partitions, run)
        buckets = 1 + num_shared // ROWS_OF_A_BUCKET
        run(spread_components, [(folder, part, buckets) for part in range(partitions)])
        for decided in run(decide_bucket, [(folder, path, spec, num_fixed, bucket, partitions) for bucket in range(buckets)]):
            original[decided["document"]] = decided["label"]
    return original


def repeated_digests(folder: Path, names: list[str], partition: int) -> np.ndarray:
    """Return the documents of a partition whose digest an earlier one has."""
    rows = np.concatenate([slice_of(folder / name, DIGEST, partition) for name in names])
    order = np.lexsort((rows["document"], rows["digest"][:, 1], rows["digest"][:, 0]))
    digests = rows["digest"][order]
    return rows["document"][order[1:][(digests[1:] == digests[:-1]).all(axis=1)]]


def spread_keys(folder: Path, path: Path, spec: NearDuplicates, begin: int, partitions: int) -> None:
    """Write the keys of some documents, all bands, by the partition they belong to."""
    signatures = signatures_in(path, spec)[begin : begin + DOCUMENTS_AT_ONCE]
    rows, bands = rows_per_band(spec), spec.permutations // rows_per_band(spec)
    pairs = np.empty((bands, len(signatures)), dtype=PAIR)
    for band in range(bands):
        pairs[band]["key"], pairs[band]["band"] = band_keys(signatures, band, rows), band
        pairs[band]["document"] = np.arange(begin, begin + len(signatures))
    flat = pairs.reshape(-1)
    spread(folder / f"keys-{begin}", flat, flat["key"] % partitions, partitions)


def keep_shared(folder: Path, names: list[str], partition: int) -> int:
    """Write the pairs of a partition whose key more than one document has, equal keys together; return how many they are."""
    pairs = np.concatenate([slice_of(folder / name, PAIR, partition) for name in names])
    pairs = pairs[np.lexsort((pairs["document"], pairs["key"], pairs["band"]))]
    new = new_keys(pairs)
    shared = ~(new & np.append(new[1:], True))
    pairs[shared].tofile(folder / f"shared-{partition}")
    return int(shared.sum())


def label_components(folder: Path, count: int, partitions: int, run: Run) -> None:
    """Give each document the least one that a chain of shared keys connects it with, in the file `labels`."""
    labels = np.memmap(folder / "labels", dtype=np.int64, mode="w+", shape=count)
    for begin in range(0, count, DOCUMENTS_AT_ONCE):
        labels[begin : begin + DOCUMENTS_AT_ONCE] = np.arange(begin, min(count, begin + DOCUMENTS_AT_ONCE))
    labels.flush()
    while sum(run(propose_labels, [(folder, partition) for partition in range(partitions)])):
        for partition in range(partitions):
            proposed = np.fromfile(folder / f"proposed-{partition}", dtype=LABEL)
            np.minimum.at(labels, proposed["document"], proposed["label"])
        for partition in range(partitions):  # over the label of the label: paths of any length end after as many doublings
            documents = np.fromfile(folder / f"shared-{partition}", dtype=PAIR)["document"]
            labels[documents] = labels[labels[documents]]
        labels.flush()


def propose_labels(folder: Path, partition: int) -> int:
    """Write the lesser labels that documents get over the keys of a partition, and return how many they are."""
    pairs, labels = np.fromfile(folder / f"shared-{partition}", dtype=PAIR), np.memmap(folder / "labels", dtype=np.int64, mode="r")
    own = labels[pairs["document"]]
    starts = np.flatnonzero(new_keys(pairs))
    least = np.repeat(np.minimum.reduceat(own, starts), np.diff(np.append(starts, len(own)))) if len(own) else own
    proposed = np.empty(int((least < own).sum()), dtype=LABEL)
    proposed["document"], proposed["label"] = pairs["document"][least < own], least[least < own]
    proposed.tofile(folder / f"proposed-{partition}")
    return len(proposed)


def spread_components(folder: Path, partition: int, buckets: int) -> None:
    """Write the shared pairs of a partition by the bucket that their component belongs to."""
    pairs, labels = np.fromfile(folder / f"shared-{partition}", dtype=PAIR), np.memmap(folder / "labels", dtype=np.int64, mode="r")
    spread(folder / f"components-{partition}", pairs, labels[pairs["document"]] % buckets, buckets)


def decide_bucket(folder: Path, path: Path, spec: NearDuplicates, num_fixed: int, bucket: int, partitions: int) -> np.ndarray:
    """Return (document, what it is a copy of) of the components of a bucket."""
    pairs = np.concatenate([slice_of(folder / f"components-{partition}", PAIR, bucket) for partition in range(partitions)])
    candidates: dict[int, list[tuple[int, int]]] = {}
    for document, key, band in np.sort(pairs, order=["document", "band"]).tolist():
        candidates.setdefault(document, []).append((band, key))
    return np.array(list(decide(signatures_in(path, spec), candidates, spec, num_fixed)), dtype=LABEL)


def signatures_in(path: Path, spec: NearDuplicates) -> np.ndarray:
    """Return the signatures in a file, a memory map."""
    return np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, spec.permutations)


def new_keys(pairs: np.ndarray) -> np.ndarray:
    """Say of each of some ordered pairs whether its key is another than the one before."""
    new = np.ones(len(pairs), dtype=bool)
    new[1:] = (pairs["key"][1:] != pairs["key"][:-1]) | (pairs["band"][1:] != pairs["band"][:-1])
    return new


def spread(path: Path, rows: np.ndarray, partitions: np.ndarray, num_partitions: int) -> None:
    """Write rows ordered by the partition each belongs to, and beside them where each partition begins."""
    partitions = partitions.astype(np.int64)
    rows[np.argsort(partitions, kind="stable")].tofile(path)
    np.concatenate([[0], np.cumsum(np.bincount(partitions, minlength=num_partitions))]).astype(np.int64).tofile(f"{path}.bounds")


def slice_of(path: Path, dtype: np.dtype, partition: int) -> np.ndarray:
    """Return the rows of one partition."""
    begin, end = np.fromfile(f"{path}.bounds", dtype=np.int64, count=2, offset=8 * partition).tolist()
    return np.fromfile(path, dtype=dtype, count=end - begin, offset=begin * dtype.itemsize)


@contextmanager
def stages(scratch: Path) -> Iterator[Path]:
    """Give an empty folder for the files of all stages, which is removed at the end."""
    folder = scratch / "stages"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
