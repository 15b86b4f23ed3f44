"""A local SMTP server with a login that keeps the emails it receives."""

import base64
import email
import email.policy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer

USER, PASSWORD = "night", "canary-9c41aa20"


@dataclass
class Mailbox:
    """Emails received, and the address that sends to this server.

    Attributes:
        address: Apprise URL, with the password in it.
        letters: each email with its recipients.
    """

    address: str
    letters: list[tuple[tuple[str, ...], EmailMessage]] = field(default_factory=list)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Serve on loopback; accept emails only after a login."""
    with ThreadingTCPServer(("127.0.0.1", 0), _Postman) as server:
        where = f"{USER}:{PASSWORD}@127.0.0.1:{server.server_address[1]}"
        box = Mailbox(f"mailto://{where}/people@example.org?from=us@example.org")
        server.box = box  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield box
        server.shutdown()


class _Postman(StreamRequestHandler):
    """One SMTP session: the part of RFC 5321 that is needed to send one email."""

    def handle(self) -> None:
        self.people: list[str] = []
        self.is_known = False
        self._say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            self._say(self._answer(verb.upper(), rest))

    def _answer(self, verb: str, rest: str) -> str:
        match verb:
            case "EHLO":
                return "250-here\r\n250 AUTH PLAIN"
            case "AUTH":
                told = base64.b64decode(rest.partition(" ")[2]).decode()
                self.is_known = told == f"\0{USER}\0{PASSWORD}"
                return "235 come in" if self.is_known else "535 not you"
            case "MAIL":
                return "250 yes" if self.is_known else "530 who are you?"
            case "RCPT":
                self.people.append(rest.partition("<")[2].rstrip(">"))
            case "DATA":
                self._keep()
        return "221 bye" if verb == "QUIT" else "250 yes"

    def _keep(self) -> None:
        self._say("354 go on")
        written = b"".join(iter(self.rfile.readline, b".\r\n"))
        letter = email.message_from_bytes(written, policy=email.policy.default)
        self.server.box.letters.append((tuple(self.people), letter))  # type: ignore[attr-defined]

    def _say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())
