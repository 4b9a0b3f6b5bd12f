"""Guards that several processes of one machine share."""

from __future__ import annotations

from pathlib import Path

from .admission import Admission
from .key_notes import KeyNotes
from .shared import SharedCounts
from .ticket_files import TicketFiles


def share(admission: Admission, counts: SharedCounts, tickets: Path) -> None:
    """Count peers, and issue tickets, together with other processes.

    Args:
        admission: The admission of this process.
        counts: The counts.
        tickets: The private folder of the tickets.
    """
    admission.connections.shared = admission.rates.shared = counts
    admission.key_notes = KeyNotes(tickets)
    admission.tickets = TicketFiles(tickets, admission.tickets.lifetime_s, admission.tickets.share)
