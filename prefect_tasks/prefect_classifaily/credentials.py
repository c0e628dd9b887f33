"""Where the API key comes from in Prefect: a block document, a block in code, or the environment.

The law of this file: the key is a `SecretStr` from the first moment, no other field is ever made of it, and a block
holds settings only. It makes a new client each time it is asked, so it can be pickled to another process and used
from any event loop.
"""

from __future__ import annotations

from typing import Any, Self

import prefect
from prefect.blocks.abstract import CredentialsBlock
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, ConfigurationError
from classifaily_connectors.settings import KEY_PREFIX, Settings
from classifaily_connectors.store.address import default_store

APPLICATION = f"prefect/{prefect.__version__}"


class ClassifailyCredentials(CredentialsBlock):
    """The API key and address of a ClassifAIly account.

    Raises pydantic's ValidationError, which names the field and the fix and never shows the key, for values that
    cannot work.

    Example:
        Load stored credentials and use a client:
        ```python
        from prefect_classifaily import ClassifailyCredentials

        credentials = ClassifailyCredentials.load("BLOCK_NAME")
        with credentials.get_client() as client:
            print(client.usage().remaining)
        ```
    """

    _block_type_name = "ClassifAIly Credentials"
    _block_type_slug = "classifaily-credentials"
    _description = "The API key and address of a ClassifAIly account, for classifying text and media from flows."
    _logo_url = "https://www.classifaily.com/favicon.png"  # type: ignore[assignment]  # Prefect coerces it
    _documentation_url = "https://classifaily.com/docs.php"  # type: ignore[assignment]

    # A block built by hand must not print its key when another field is wrong.
    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: SecretStr = Field(
        title="API Key", description="The key, from API Keys in the ClassifAIly dashboard; starts with cai_live_."
    )
    base_url: str | None = Field(
        default=None,
        title="Base URL",
        description="The API's address; empty means CLASSIFAILY_BASE_URL, else https://api.classifaily.com/v1.",
    )
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        title="Timeout (seconds)",
        description="How long one attempt may wait for its answer; empty means 60 for one input, more for a batch.",
    )
    store_url: SecretStr | None = Field(
        default=None,
        title="Store URL",
        description="Where the ledger and the deliveries are, e.g. postgresql+psycopg://user:password@host/db; "
        "empty means CLASSIFAILY_STORE_URL, else the file in the user's state folder.",
    )

    _from: str = PrivateAttr(default="a ClassifailyCredentials block that is not saved")

    @model_validator(mode="after")
    def _can_work(self) -> Self:
        self._settings()
        return self

    @classmethod
    def from_env(cls) -> Self:
        """The block the environment describes: CLASSIFAILY_KEY (or CLASSIFAILY_API_KEY) and CLASSIFAILY_BASE_URL.

        Raises ConfigurationError when there is no key, or key or address cannot work.
        """
        settings = Settings.resolve()
        # A block may travel to another process; the settings' own key refuses to.
        block = cls(api_key=SecretStr(settings.api_key.get_secret_value()), base_url=settings.base_url)
        block._from = settings.key_source
        return block

    def get_client(self, *_: Any, **options: Any) -> ClassifailyClient:
        """A new client, to be used as a context manager; `options` are those of `ClassifailyClient`, e.g. `retry`."""
        settings = self._settings()
        options = {"application": APPLICATION, "key_source": self._key_source(), **options}
        return ClassifailyClient(settings.api_key, base_url=settings.base_url, timeout=settings.timeout, **options)

    def get_async_client(self, *_: Any, **options: Any) -> AsyncClassifailyClient:
        """A new client, to be used with `async with`; `options` are those of `AsyncClassifailyClient`."""
        settings = self._settings()
        options = {"application": APPLICATION, "key_source": self._key_source(), **options}
        return AsyncClassifailyClient(settings.api_key, base_url=settings.base_url, timeout=settings.timeout, **options)

    def get_store_url(self) -> str:
        """Where the ledger and the deliveries are: `store_url`, CLASSIFAILY_STORE_URL, or the file that the command
        line and other platforms of this machine's user have too."""
        given = self.store_url.get_secret_value() if self.store_url else None
        from prefect.settings import get_current_settings

        return default_store(given, former_home=get_current_settings().home)

    def _key_source(self) -> str:
        return f"the Prefect block {self._block_document_name!r}" if self._block_document_name else self._from

    def _settings(self) -> Settings:
        return Settings.resolve(self.api_key, self.base_url, self.timeout_seconds)


CredentialsLike = ClassifailyCredentials | str | None
"""A block, the name of a saved one, or None for the environment."""


def resolve(credentials: CredentialsLike) -> ClassifailyCredentials:
    """The block meant by `credentials`.

    Raises ConfigurationError when it can be none, ValueError when no block of that name is saved.
    """
    if not isinstance(credentials, str):
        return _at_hand(credentials)
    # Told to be sync: beside a running event loop, Prefect's dispatch would hand back a coroutine.
    load: Any = ClassifailyCredentials.load
    block: ClassifailyCredentials = load(_checked_name(credentials), _sync=True)
    return block


async def aresolve(credentials: CredentialsLike) -> ClassifailyCredentials:
    """The async twin of `resolve`."""
    if not isinstance(credentials, str):
        return _at_hand(credentials)
    return await ClassifailyCredentials.aload(_checked_name(credentials))


def _at_hand(credentials: ClassifailyCredentials | None) -> ClassifailyCredentials:
    if credentials is None:
        return ClassifailyCredentials.from_env()
    if isinstance(credentials, ClassifailyCredentials):  # pyright: ignore[reportUnnecessaryIsInstance]
        return credentials
    raise ConfigurationError(
        "credentials must be a ClassifailyCredentials block, the name of a saved one, or None for CLASSIFAILY_KEY, "
        f"not {type(credentials).__name__}"
    )


def _checked_name(name: str) -> str:
    if name.strip().startswith(KEY_PREFIX):
        # It would be sent to the Prefect server and come back in the message that there is no such block.
        raise ConfigurationError(
            "credentials is an API key where the name of a block belongs: "
            "pass ClassifailyCredentials(api_key=…), or leave it out and set CLASSIFAILY_KEY"
        )
    return name
