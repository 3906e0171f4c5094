"""Why a file cannot become a document. None of these is worth a retry: the same bytes fail the same way.

    DocumentError
    ├── UnsupportedFile       unsupported_file     a kind that is not read here: an image, a spreadsheet, an archive
    ├── EmptyFile             empty_file           no bytes, or white space only
    ├── UnreadableFile        unreadable_file      of a kind that is read, but cut short or broken
    │   ├── EncryptedFile     encrypted_file       … or protected by a password
    │   └── ParseCrashed      parse_crashed        … or its parser ended without an answer
    ├── NoTextFound           no_text_found        read without error, and there is no text in it: a scanned PDF
    └── FileTooComplex        file_too_complex     over a bound on size, parts or depth
        ├── TooManyPages      too_many_pages       … more pages than are read
        ├── TooManyPassages   too_many_passages    … its text makes more passages than one document may have
        ├── ParseTimeout      parse_timeout        … reading it took longer than PARSE_TIMEOUT_S
        └── ParseOutOfMemory  parse_out_of_memory  … reading it took more memory than PARSE_MEMORY_BYTES

The codes are what a file of a vector store shows as `last_error.reason`; the one beside them is `internal_error`, a bug
of ours. The messages name the file's kind and our limits, never its content, and are safe to show.
"""

from plugins.contract.errors import WattosError


class DocumentError(WattosError):
    """The file cannot become a document, now or later."""

    code = "document_error"


class UnsupportedFile(DocumentError):
    """Not a kind of file that is read here: an image, a spreadsheet, an archive, a program."""

    code = "unsupported_file"


class EmptyFile(DocumentError):
    """No bytes, or white space only."""

    code = "empty_file"


class UnreadableFile(DocumentError):
    """Of a kind that is read, but cut short or broken."""

    code = "unreadable_file"


class EncryptedFile(UnreadableFile):
    """It opens with a password only."""

    code = "encrypted_file"


class ParseCrashed(UnreadableFile):
    """Its parser ended without an answer: native code met what it could not stand, or ran out of memory."""

    code = "parse_crashed"


class NoTextFound(DocumentError):
    """The file opens, but holds no text: typically scanned pages."""

    code = "no_text_found"


class FileTooComplex(DocumentError):
    """Over a bound on size, parts or depth of one file."""

    code = "file_too_complex"


class TooManyPages(FileTooComplex):
    """More pages than are read of one file."""

    code = "too_many_pages"


class TooManyPassages(FileTooComplex):
    """Its text makes more passages than one document may have."""

    code = "too_many_passages"


class ParseTimeout(FileTooComplex):
    """Reading it took longer than PARSE_TIMEOUT_S."""

    code = "parse_timeout"


class ParseOutOfMemory(FileTooComplex):
    """Reading it took more memory than PARSE_MEMORY_BYTES."""

    code = "parse_out_of_memory"


BY_CODE: dict[str, type[DocumentError]] = {
    error.code: error
    for error in (
        UnsupportedFile,
        EmptyFile,
        UnreadableFile,
        EncryptedFile,
        ParseCrashed,
        NoTextFound,
        FileTooComplex,
        TooManyPages,
        TooManyPassages,
        ParseTimeout,
        ParseOutOfMemory,
    )
}
"""Every reason there is, by its code: for the documentation, and for errors that cross the parser process' pipe."""
