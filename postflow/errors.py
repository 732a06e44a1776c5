"""Everything that can go wrong, as one tree. Imports nothing of ours.

    PostFlowError
    ├── Invalid(fields)        the person can correct it: the form again, 422
    ├── NotFound               absent, or not yours: the same answer, 404
    ├── Conflict               the thing moved on meanwhile (another tab, a worker): say so, 409
    │   └── SentBefore         the same post again: only if the person says so knowingly
    ├── Misconfigured          the operator must act; refuses the start
    │   └── SchemaBehind       the database wants `postflow migrate`
    ├── ConnectError           connecting an account did not work, with the sentence for the person
    │   └── AppForgotten       the server no longer knows PostFlow as a client: register anew
    └── PublishError           a network said no, or nothing
        ├── Retry              passing fault, nothing was published; again in retry_in_s
        │   └── Throttled      the account (not only this post) must wait
        ├── NotReady           the network is still processing what was prepared
        ├── StageLost          uploads or containers are gone; nothing was published; prepare anew
        ├── Refused            permanent: the same request will never be accepted
        ├── Unauthorized       the token is dead: reconnect; nothing was published
        └── OutcomeUnknown     the request may have been carried out: look, never just send again

Messages of PublishError and ConnectError are sentences for a person; `detail` is for the operator's log and is
scrubbed of secrets by whoever raises it.
"""

from collections.abc import Mapping


class PostFlowError(Exception):
    """The root of everything PostFlow raises on purpose."""


class Invalid(PostFlowError):
    """`fields` maps a form field to the sentences about it ("" for the whole form)."""

    def __init__(self, fields: Mapping[str, str | list[str]]) -> None:
        self.fields: dict[str, list[str]] = {
            name: [said] if isinstance(said, str) else list(said) for name, said in fields.items()
        }
        super().__init__("; ".join(sentence for said in self.fields.values() for sentence in said))


class NotFound(PostFlowError):
    """Not there, or not yours; the two are told alike."""


class Conflict(PostFlowError):
    """It changed while you looked at it; the message says to what."""


class SentBefore(Conflict):
    """The same words are out or waiting on the same account; `post_id` is that post."""

    def __init__(self, sentence: str, post_id: int) -> None:
        super().__init__(sentence)
        self.post_id = post_id


class Misconfigured(PostFlowError):
    """A setting or the surroundings are wrong; the message says which and what to do."""


class SchemaBehind(Misconfigured):
    """The database's tables are older than this program."""


class ConnectError(PostFlowError):
    """An account could not be connected; the message says why and what to do next."""


class AppForgotten(ConnectError):
    """The server dropped our registration; tokens made with it are dead as well."""


class PublishError(PostFlowError):
    """A network did not take it. `code` is short and stable, `next_step` tells the person what to do."""

    code = "error"

    def __init__(
        self,
        sentence: str,
        *,
        code: str | None = None,
        next_step: str | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code or self.code
        self.next_step = next_step
        self.detail = detail


class Retry(PublishError):
    """Nothing was published. `retry_in_s` is the server's own wish; None leaves it to our backoff."""

    code = "retry"

    def __init__(
        self,
        sentence: str,
        *,
        retry_in_s: float | None = None,
        new_key: bool = False,
        code: str | None = None,
        next_step: str | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(sentence, code=code, next_step=next_step, detail=detail)
        self.retry_in_s = retry_in_s
        self.new_key = new_key  # the idempotency key was used up by this refusal


class Throttled(Retry):
    """The server asks this account to wait; its other posts wait with it and spend no attempts."""

    code = "throttled"
    only_uploads = False  # texts, and what is uploaded already, need not wait


class NotReady(PublishError):
    """The network still works on an upload or a container; ask again in `retry_in_s` seconds."""

    code = "not_ready"

    def __init__(self, sentence: str, *, retry_in_s: float, detail: str | None = None) -> None:
        super().__init__(sentence, detail=detail)
        self.retry_in_s = retry_in_s


class StageLost(PublishError):
    code = "stage_lost"

    def __init__(
        self,
        sentence: str,
        *,
        new_key: bool = False,
        code: str | None = None,
        next_step: str | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(sentence, code=code, next_step=next_step, detail=detail)
        self.new_key = new_key


class Refused(PublishError):
    code = "refused"


class Unauthorized(PublishError):
    code = "unauthorized"


class OutcomeUnknown(PublishError):
    code = "outcome_unknown"
