"""Pushing a run to the Hub: one commit, all or nothing, and pushing again continues."""

from pathlib import Path


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
    """Publishes what a run found, with its card, as one commit.

    Args:
        run_dir: Folder of a finished run.
        repo_id: `owner/name`, or a name in the token's own account. It is created if it does not exist.
        folder: An export of the run; default: `run_dir/subnet`.
        supernet: Publish `run_dir/supernet` instead, with the architecture parameters and the trajectory of the search.
        token: Access token; default: the one of `hf auth login` or `HF_TOKEN`.
        private: Whether a new repository is private; None: as the account's settings say.
        revision: Branch, created if it does not exist; default: main.
        commit_message: First line of the commit.

    Returns:
        Address of the repository.

    Raises:
        ValueError: The run is not finished, there is no valid token, the token may not write there, the repository holds
            something else, or it exists with another visibility than `private` says. Nothing was published.
        ConnectionError: The Hub cannot be reached or the connection was lost. Nothing was published; large files that had
            arrived are not sent again by the next push.
    """
    raise NotImplementedError
