"""A notification block of Prefect's kind that sends e-mail through any SMTP server.

Prefect's own e-mail goes through SendGrid only; Apprise, which its notification blocks are made
of, knows SMTP. By the entry point `prefect.collections` every Prefect server that runs where
Stepfold is installed knows this block too.
"""

import logging
from typing import Any

from apprise import NotifyFormat
from prefect.blocks.notifications import AppriseNotificationBlock
from pydantic import Field, SecretStr

from flows.silence import silenced
from pipeline.errors import ConfigError

_silent = logging.getLogger(f"{__name__}.silent")
_silent.disabled = True

_HERE = ("127.0.0.1", "::1", "localhost")
_FORM = "mailtos://, USER:PASSWORD@, the SMTP server, / and whom to reach"


class SmtpEmail(AppriseNotificationBlock):
    """Sends e-mail through an SMTP server, as plain text."""

    _block_type_name = "SMTP Email"
    _block_type_slug = "smtp-email"
    _description = "Sends e-mail through an SMTP server."

    url: SecretStr = Field(
        title="Address", description=f"In one word, as Apprise reads it: {_FORM}."
    )

    def block_initialization(self) -> None:
        """Read the address; what goes wrong later is told by an error without it, not logged."""
        with silenced():
            super().block_initialization()
        for service in self.services:
            service.notify_format = NotifyFormat.TEXT  # else line breaks are lost in HTML
            service.logger = _silent

    @property
    def services(self) -> tuple[Any, ...]:
        """The SMTP server that the address names; none if Apprise cannot read the address."""
        return tuple(self._apprise_client)


def email_at(address: str) -> SmtpEmail:
    """A block for an address.

    Raises:
        ConfigError: nobody can be reached by it, or it would send a password that all can read.
    """
    made = SmtpEmail(url=SecretStr(address))
    server = next(iter(made.services), None)
    is_mail = address.startswith(("mailto://", "mailtos://"))
    if not is_mail or server is None or not server.targets:
        raise ConfigError(
            f"smtp-email: the address is one word made of {_FORM}, with %40 for an @ in USER; "
            "?from= behind it names another sender than USER at that server"
        )
    if server.password and server.secure_mode == "insecure" and server.smtp_host not in _HERE:
        raise ConfigError(
            "smtp-email: this address sends its password unencrypted; begin it with mailtos://"
        )
    return made
