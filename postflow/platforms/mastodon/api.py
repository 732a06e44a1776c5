"""What every request to a server of the Mastodon family shares: the token it carries, and what its answer means."""

from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from postflow.errors import PublishError, Retry
from postflow.models import Credentials
from postflow.platforms import answers


class Speaking:
    client_name: ClassVar[str] = "PostFlow"

    @staticmethod
    def bearer(credentials: Credentials) -> dict[str, str]:
        return {"Authorization": f"Bearer {credentials.access_token.get_secret_value()}"}

    def understood(self, answer: httpx.Response, *, commit: bool) -> Mapping[str, Any]:
        """The JSON object of a 2xx. Raises what anything else means."""
        if not answer.is_success:
            raise self.refusal(answer, commit=commit)
        body = answers.parsed(answer)
        if not isinstance(body, Mapping):
            if commit:
                raise answers.lost("an answer that is no status")
            raise Retry("The server's answer could not be read.", code="garbage", detail=f"HTTP {answer.status_code}")
        return body

    def listed(self, answer: httpx.Response) -> list[Mapping[str, Any]]:
        if not answer.is_success:
            raise self.refusal(answer, commit=False)
        body = answers.parsed(answer)
        if not isinstance(body, list):
            raise Retry("The server's answer could not be read.", code="garbage", detail=f"HTTP {answer.status_code}")
        return [one for one in body if isinstance(one, Mapping) and one.get("id")]

    def refusal(self, answer: httpx.Response, *, commit: bool) -> PublishError:
        return answers.refusal(answer, commit=commit)
