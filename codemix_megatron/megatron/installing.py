"""Applying the table of changes: all of an entry's sites are checked before any is replaced, and what does not fit is refused by name."""

from collections.abc import Iterable, Mapping

from codemix_megatron.errors import LaunchError
from codemix_megatron.megatron.change import SUPPORTED_MEGATRON, Change
from codemix_megatron.megatron.changes import CHANGES
from codemix_megatron.megatron.importing import import_megatron
from codemix_megatron.megatron.switches import is_left_out, left_out

__all__ = ["active_changes", "change_lines", "install_changes", "is_active"]

installed: dict[str, Change] = {}
computes_on: list[str] = []  # the device these were installed for


def install_changes(device_type: str, engines: Mapping[str, bool]) -> None:
    """Make every change that applies on this device, once per process; `engines` as `parallel.device.active_engines` has them.

    Raises LaunchError naming every site of megatron-core that is not what the table says, before anything is replaced.
    """
    left_out()  # raises for a name that no change has
    import_megatron()
    if device_type == "cuda" and "cpu" in computes_on:
        raise LaunchError("this process has computed on CPU, where torch.cuda is replaced; compute on CUDA in a process of its own")
    wanted = [change for change in CHANGES if change.name not in installed and applies(change, device_type, engines)]
    check(wanted)
    for change in wanted:
        if change.when != "at import":  # import_megatron has made those
            for site in change.sites:
                site.apply()
        installed[change.name] = change
    if device_type not in computes_on:
        computes_on.append(device_type)


def applies(change: Change, device_type: str, engines: Mapping[str, bool]) -> bool:
    """Say whether a change is to be made here."""
    on_cuda = device_type == "cuda"
    transformer_engine = on_cuda and engines.get("transformer_engine", False)
    has_fused_adam = transformer_engine or (on_cuda and engines.get("amp_C", False))
    here = {
        "always": True,
        "at import": True,
        "on CPU": not on_cuda,
        "without FusedAdam": not has_fused_adam,
        "on CUDA without FusedAdam": on_cuda and not has_fused_adam,
        "with Transformer Engine": transformer_engine and not engines.get("fused_weight_gradient_mlp_cuda", False),
    }
    return here[change.when] and not is_left_out(change.name)


def check(changes: Iterable[Change]) -> None:
    """Raise LaunchError with every fault of these changes."""
    faults = [f"{change.name}: {fault}" for change in changes for site in change.sites if (fault := site.fault())]
    if faults:
        import megatron.core

        raise LaunchError(
            f"changes to megatron-core that do not fit {megatron.core.__version__}: {'; '.join(faults)}."
            f" Install megatron-core {' or '.join(SUPPORTED_MEGATRON)}"
        )


def is_active(name: str) -> bool:
    """Say whether a change was made in this process."""
    return name in installed


def active_changes() -> list[Change]:
    """Return the changes made in this process, in the order of the table."""
    return [change for change in CHANGES if change.name in installed]


def change_lines() -> list[str]:
    """Return a line for each change: its name, whether it was made here, why, and what upstream has."""
    lines = []
    for change in CHANGES:
        state = "on" if is_active(change.name) else "left out" if is_left_out(change.name) else change.when
        lines.append(f"{change.name} ({state}): {change.why}; upstream: {change.upstream}")
    return lines
