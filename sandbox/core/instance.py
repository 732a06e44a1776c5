"""One instance of the network."""

from dataclasses import dataclass, field

from sandbox.core.software import Profile


@dataclass(slots=True, eq=False)
class Instance:
    """A server of the network. `url` is its base address; `profile` decides what it does."""

    name: str
    title: str
    profile: Profile
    url: str = ""
    locks: set[str] = field(default_factory=set)

    @property
    def domain(self) -> str:
        """Host and port, as it stands after the @ of a handle."""
        return self.url.split("://", 1)[-1]
