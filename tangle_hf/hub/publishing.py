"""Pushing a run to the Hub: one commit, all or nothing, and pushing again continues."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token
from huggingface_hub.errors import (
    HFValidationError,
    HTTPError,  # of whichever HTTP client this version of huggingface_hub has
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from .cards import LOCAL_NAME, card_folder, write_card


KINDS = ("subnet", "supernet", "finetuned", "compressed")
# Files of an earlier push that would be loaded in place of, or beside, the new ones.
STALE = ("model*.safetensors", "model*.safetensors.index.json", "modeling_*.py", "configuration_*.py")
# What else of a run goes with its supernet: the logits, the trajectory, and what was found.
SEARCH_FILES = ("arch_parameters.safetensors", "metrics.jsonl", "candidates.jsonl", "architecture.json")


def push(
    run_dir: str | Path,
    repo_id: str,
    *,
    folder: str | Path | None = None,
    supernet: bool = False,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Publishes what a run found or trained, with its card, as one commit.

    The card is the `README.md` of the folder, written first if there is none.

    Args:
        run_dir: Folder of a finished run, of a search or of a fine-tuning.
        repo_id: `owner/name`, or a name in the token's own account. It is created if it does not exist.
        folder: An export of the run, or a net of a fine-tuning; default: `run_dir/subnet`, or its only net.
        supernet: Publish `run_dir/supernet` instead, with the architecture parameters and the trajectory of the search.
        token: Access token; default: the one of `hf auth login` or `HF_TOKEN`.
        private: Whether a new repository is private; None: as the account's settings say.
        revision: Branch, created if it does not exist; default: main.
        commit_message: First line of the commit.

    Returns:
        Address of the repository.

    Raises:
        ValueError: The run is not finished, there is no valid token, the token may not write there, the repository holds
            something else than an earlier push of the same kind, or its visibility is not what `private` says. Nothing was
            published.
        ConnectionError: The Hub cannot be reached, fails, or the connection was lost. Push again.
    """
    run_dir = Path(run_dir)
    if folder is not None and supernet:
        raise ValueError(f"folder={folder} and supernet=True are both given; choose one")
    if folder is None:
        folder = run_dir / "supernet" if supernet else card_folder(run_dir)
    folder = Path(folder)
    if not (folder / "README.md").is_file():
        write_card(run_dir, folder)
    files = folder_files(folder)
    if supernet:
        files |= {name: run_dir / name for name in SEARCH_FILES if (run_dir / name).is_file()}
    options = {"token": token, "private": private, "revision": revision}
    return publish(
        files,
        repo_id,
        commit_message=commit_message or f"{folder.resolve().name} of {run_dir.resolve().name}",
        **options,
    )


def folder_files(folder: Path) -> dict[str, Path]:
    """Path in the repository -> file, of everything in a folder but hidden and half-written files."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    inside = {path.relative_to(folder): path for path in paths}
    return {name.as_posix(): path for name, path in inside.items() if not any(p.startswith(".") for p in name.parts)}


def publish(
    files: Mapping[str, Path],
    repo_id: str,
    *,
    commit_message: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> str:
    """Uploads files with a card of this library as one commit; all of them appear together or none does.

    Large files go first and wait unseen on the server for the commit that names them. After a lost connection they are not
    sent again.

    Args:
        files: Path in the repository -> file; "README.md" is the card.
        repo_id: `owner/name`, or a name in the token's own account. It is created if it does not exist.
        commit_message: First line of the commit.
        token: Access token; default: the one of `hf auth login` or `HF_TOKEN`.
        private: Whether a new repository is private; None: as the account's settings say.
        revision: Branch, created if it does not exist; default: main.

    Returns:
        Address of the repository.

    Raises:
        ValueError: There is no valid token, the token may not write there, the repository holds something else than an
            earlier push of the same kind, or its visibility is not what `private` says. Nothing was published.
        ConnectionError: The Hub cannot be reached, fails, or the connection was lost. Push again.
    """
    text = files["README.md"].read_text(encoding="utf-8")
    repo_id, present = check_target(repo_id, card_kind(text), token=token, private=private, revision=revision)
    with _hub_errors(repo_id):
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        contents = {name: path for name, path in files.items() if name != "README.md"}
        contents["README.md"] = text.replace(LOCAL_NAME, repo_id).encode()
        stale = [name for name in present if name not in contents and any(fnmatch(name, p) for p in STALE)]
        operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
        operations += [CommitOperationDelete(name) for name in stale]
        api.create_commit(repo_id, operations, commit_message=commit_message, revision=revision)
    return f"{api.endpoint}/{repo_id}"


def check_target(
    repo_id: str,
    kind: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> tuple[str, list[str]]:
    """Checks, without writing anything, that a push to this repository would be accepted; call it before a long search.

    Args:
        repo_id: `owner/name`, or a name in the token's own account. It is created if it does not exist.
        kind: What would be pushed: "subnet", "supernet" or "finetuned".
        token: Access token; default: the one of `hf auth login` or `HF_TOKEN`.
        private: Whether a new repository is private; None: as the account's settings say.
        revision: Branch, created if it does not exist; default: main.

    Returns:
        The repository as `owner/name`, and the files that it has.

    Raises:
        ValueError: There is no valid token, the repository holds something else than an earlier push of this kind, or its
            visibility is not what `private` says. Whether the token may write there shows only in the push.
        ConnectionError: The Hub cannot be reached, or fails.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no name of a repository, which is owner/name: {error}") from error
    if token is None and get_token() is None:
        raise ValueError(
            "there is no token for the Hub; run `hf auth login`, or set HF_TOKEN to one that may write "
            "(https://huggingface.co/settings/tokens)"
        )
    with _hub_errors(repo_id):
        api = HfApi(token=token)
        account = api.whoami()["name"]
        repo_id = repo_id if "/" in repo_id else f"{account}/{repo_id}"
        try:
            info = api.model_info(repo_id)
        except RepositoryNotFoundError:
            return repo_id, []
        visibility = info.private
        try:
            info = api.model_info(repo_id, revision=revision)
        except RevisionNotFoundError:
            revision = None  # a new branch starts with what main has
        present = [file.rfilename for file in info.siblings]
        card = Path(api.hf_hub_download(repo_id, "README.md", revision=revision)) if "README.md" in present else None
    if private is not None and visibility != private:
        found, wanted = ("private", "public") if visibility else ("public", "private")
        raise ValueError(
            f"{repo_id} exists and is {found}, not {wanted}; change that in its settings on the Hub first"
        )
    if set(present) <= {".gitattributes"}:
        return repo_id, present
    if card is None or card_kind(card.read_text(encoding="utf-8")) != kind:
        raise ValueError(
            f"{repo_id} holds something else ({', '.join(sorted(present)[:5])}): its card does not have the tags tangle_hf "
            f"and {kind} of an earlier push. Nothing was published; choose another repository, or empty this one"
        )
    return repo_id, present


def card_kind(text: str) -> str | None:
    """Which kind of card of this library a text is: "subnet", "supernet", "finetuned", or None for any other text."""
    try:
        tags = ModelCard(text, ignore_metadata_errors=True).data.tags or []
    except (ValueError, yaml.YAMLError):
        return None
    kinds = [kind for kind in KINDS if kind in tags]
    return kinds[0] if "tangle_hf" in tags and kinds else None


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    """Says what failed, that nothing was published, and what to do, whatever error the client has for it."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ConnectionError(f"{repo_id} was not published: HF_HUB_OFFLINE is set; unset it to push") from error
    except (HTTPError, LocalEntryNotFoundError, RuntimeError) as error:
        # The upload of a large file (RuntimeError) and the download of the card wrap what went wrong.
        cause = error if isinstance(error, HTTPError) else error.__cause__ or error
        said = (str(cause) or type(cause).__name__).splitlines()[0]
        status = getattr(getattr(cause, "response", None), "status_code", None)  # None: there was no answer
        if status == 401:
            reason = "the Hub does not know this token; run `hf auth login` again, or correct HF_TOKEN"
        elif status == 403:
            reason = "this token may not write there; use one with write access, or a repository of your own"
        elif status is not None and status < 500 and status not in (408, 429):
            reason = f"the Hub refused it: {said}"
        else:
            raise ConnectionError(
                f"{repo_id} was not published: {said}. Push again; what has arrived is not sent again"
            ) from error
        raise ValueError(f"{repo_id} was not published: {reason}") from error
    except ValueError as error:
        raise ValueError(f"{repo_id} was not published: {error}") from error
