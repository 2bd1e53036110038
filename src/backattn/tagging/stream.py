"""Tag an input as it comes: read a batch of documents, tag it, write it, in the input's order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TextIO, get_args

from backattn.common.safe_text import printable
from backattn.corpus.documents import Document
from backattn.corpus.input_raw import TextSplitter, Tokenizer, read_json, read_text
from backattn.corpus.input_text import InputForm, read_columns, read_conllu, read_tokens
from backattn.corpus.tags import OutputScheme
from backattn.models.vouchers import Vouchers
from backattn.recipe import ConlluFormat
from backattn.tagging.outputs import Output, TaggedDocument, columns, json_line, marked, spans
from backattn.tagging.text_tagger import TextTagger

Input = Literal["text", "tokens", "columns", "conllu", "jsonl"]
INPUTS = get_args(Input)
# Characters of a batch: a few megabytes of tokens and their places.
_MOST_CHARACTERS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How text is read and written.

    :param input: form of the input.
    :param tokenizer: what splits raw text into words.
    :param split: split raw text into sentences.
    :param output: form of the output.
    :param scheme: tag scheme of columns.
    :param ansi: colours of a terminal around entities, for the output ``color``.
    :param batch: sentences, at most, that are read before they are tagged and written.
    """

    input: Input = "text"
    tokenizer: Tokenizer = "moses"
    split: bool = True
    output: Output = "columns"
    scheme: OutputScheme = "BIOES"
    ansi: bool = False
    batch: int = 256


def tag_text(
    run: Path,
    source: BinaryIO,
    name: str,
    out: TextIO,
    options: TextOptions,
    *,
    device: str,
    vouchers: Vouchers,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Tag a text and write what was found, batch by batch.

    Models of stage one are loaded after the first batch was read, so that a wrong file is refused at once.

    :param name: name of the source, for messages.
    :param tell: prints a line for the user.
    :raises CorpusError: the text does not have the form ``options.input``; names file and line.
    """
    tagger = TextTagger(run, device=device, vouchers=vouchers)
    corpus = tagger.recipe.corpus
    form = InputForm(name, corpus.unit, corpus.format, tagger.types, tell)
    write = _writer(options, sorted(tagger.types))
    number = 0
    for tagged in tag_documents(tagger, read(source, form, tagger, options), options.batch):
        if tagger.failure and not number:  # not before: where models are refused, that is the only line
            tell(f"backattn: {printable(str(run))}: {tagger.failure}")
        for document in tagged:
            number += 1
            out.write(write(document, number))
        out.flush()
    if not number:  # files of the kernel (/proc) are read as empty, too
        tell(f"{name}: is empty; nothing was tagged")


def read(source: BinaryIO, form: InputForm, tagger: TextTagger, options: TextOptions) -> Iterator[Document]:
    """Read the documents of an input."""

    def splitter() -> TextSplitter:
        language = tagger.recipe.translator.source
        return TextSplitter(language, form.unit, options.tokenizer, options.split)

    if options.input == "text":
        return read_text(source, form, splitter())
    if options.input == "jsonl":
        return read_json(source, form, splitter)
    if options.input == "tokens":
        return read_tokens(source, form)
    in_conllu = options.input == "conllu" or isinstance(form.format, ConlluFormat)
    return (read_conllu if in_conllu else read_columns)(source, form)


def tag_documents(
    tagger: TextTagger, documents: Iterable[Document], batch: int
) -> Iterator[list[TaggedDocument]]:
    """Tag documents, in their order, a batch at a time."""
    for part in _batches(documents, batch):
        sentences = [sentence.tokens for document in part for sentence in document.sentences]
        predictions = iter(tagger.tag(sentences))
        yield [TaggedDocument(d, tuple(next(predictions) for _ in d.sentences)) for d in part]


def _batches(documents: Iterable[Document], batch: int) -> Iterator[list[Document]]:
    part: list[Document] = []
    sentences = characters = 0
    for document in documents:
        part.append(document)
        sentences += max(1, len(document.sentences))
        characters += len(document.text)
        if sentences >= batch or characters >= _MOST_CHARACTERS:
            yield part
            part, sentences, characters = [], 0, 0
    if part:
        yield part


def _writer(options: TextOptions, types: list[str]) -> Callable[[TaggedDocument, int], str]:
    if options.output == "jsonl":
        return lambda tagged, _: json_line(tagged)
    if options.output == "spans":
        return spans
    if options.output == "color":
        return lambda tagged, _: marked(tagged, types, ansi=options.ansi)
    return lambda tagged, _: columns(tagged, options.scheme)
