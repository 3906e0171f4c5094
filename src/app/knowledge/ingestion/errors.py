"""Why a file cannot become a document. None of these is worth a retry: the same bytes fail the same way.

    DocumentError
    ├── UnsupportedFile   the bytes are of a kind that is not read here: an image, a spreadsheet, an archive
    ├── EmptyFile         nothing in it, or white space only
    ├── UnreadableFile    of a kind that is read, but encrypted, cut short or broken
    ├── NoTextFound       read without error, and there is no text in it: a scanned PDF
    └── FileTooComplex    over a bound on size, depth, memory or time

The messages name the file's kind, never its content, and are safe to show to the one who uploaded it.
"""

from plugins.contract.errors import WattosError


class DocumentError(WattosError):
    """The file cannot become a document, now or later."""

    code = "document_error"


class UnsupportedFile(DocumentError):
    """Not a kind of file that is read here."""

    code = "unsupported_file"


class EmptyFile(DocumentError):
    """No bytes, or white space only."""

    code = "empty_file"


class UnreadableFile(DocumentError):
    """Encrypted, cut short, broken, or it crashed its parser."""

    code = "unreadable_file"


class NoTextFound(DocumentError):
    """The file opens, but holds no text: typically scanned pages."""

    code = "no_text_found"


class FileTooComplex(DocumentError):
    """Reading it would take more memory, time or depth than one file may have."""

    code = "file_too_complex"


BY_CODE: dict[str, type[DocumentError]] = {
    error.code: error for error in (UnsupportedFile, EmptyFile, UnreadableFile, NoTextFound, FileTooComplex)
}
"""For errors that cross the parser process' pipe."""
