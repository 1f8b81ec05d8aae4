"""Holds the citations of a translated reply against those of its source: each stands for the same words of the answer.

Every format tells the place of a citation by a measure of its own, so that only the words behind it can be compared."""
import matrix_losses


def chat(events):
    """What a chat completion, whole or in chunks, cites: address and words."""
    text, found = "", []
    for event in events:
        for choice in event.get("choices") or []:
            if choice.get("index", 0) == 0:
                said = choice.get("message") or choice.get("delta") or {}
                text += said.get("content") if isinstance(said.get("content"), str) else ""
                found += [a["url_citation"] for a in said.get("annotations") or [] if "url_citation" in a]
    return [(u["url"], text[u["start_index"]:u["end_index"]]) for u in found if u.get("end_index")]


def responses(events):
    found = []
    for event in events:
        if event.get("type") == "response.output_item.done":
            items = [event["item"]]
        else:
            items = event.get("output") or []
        for part in (part for item in items for part in item.get("content") or []):
            text = part.get("text") or ""
            for a in part.get("annotations") or []:
                if a.get("url") and a.get("end_index"):
                    found.append((a["url"], text[a["start_index"]:a["end_index"]]))
    return found


def gemini(events):
    text, grounding = b"", {}
    for event in events:
        for candidate in (event.get("candidates") or [])[:1]:
            for part in (candidate.get("content") or {}).get("parts") or []:
                text += b"" if part.get("thought") else part.get("text", "").encode()
            told = candidate.get("groundingMetadata") or {}
            # Each one takes the place of the one before.
            grounding = told if told.get("groundingChunks") else grounding
    found = []
    for support in grounding.get("groundingSupports") or []:
        segment = support.get("segment") or {}
        words = text[segment.get("startIndex", 0):segment.get("endIndex", 0)].decode("utf8", "ignore")
        for at in support.get("groundingChunkIndices") or []:
            chunks = grounding["groundingChunks"]
            if at < len(chunks) and "web" in chunks[at] and words:
                found.append((chunks[at]["web"].get("uri", ""), words))
    return found


def anthropic(events):
    blocks, found = {}, []
    for event in events:
        for at, block in enumerate(event.get("content") or []):
            blocks[at] = (block.get("text") or "", block.get("citations") or [])
        if event.get("type") == "content_block_start":
            block = event["content_block"]
            blocks[event["index"]] = (block.get("text") or "", list(block.get("citations") or []))
        if event.get("type") == "content_block_delta":
            text, cited = blocks.get(event["index"], ("", []))
            more = event["delta"].get("citation")
            blocks[event["index"]] = (text + (event["delta"].get("text") or ""), cited + ([more] if more else []))
    for text, cited in blocks.values():
        found += [(c["url"], text) for c in cited if c.get("url") and text]
    return found


FORMATS = {"openai.chat": chat, "openai.responses": responses, "gemini": gemini, "anthropic": anthropic}


def reader(api):
    return next((read for name, read in FORMATS.items() if api.startswith(name)), None)


def origin(item):
    """The format of the source, by the id of its recording."""
    kind = item["id"].split(".")[0]
    return {"chat": chat, "responses": responses, "gemini": gemini, "messages": anthropic}.get(kind)


def read(reader_of, body):
    return sorted(reader_of([body] if isinstance(body, dict) else matrix_losses.events(body)))


def check(item):
    """How many citations were compared, and what was found: (rule, message)."""
    source, target = origin(item), reader(item["api"])
    # At Anthropic a citation stands for a whole block.
    if item["kind"] == "request" or not source or not target or target is anthropic:
        return 0, []
    wanted = read(source, item["source"])
    if not wanted or any(name == "citations.span" for name, _ in item["losses"]):
        return 0, []
    got = read(target, item["body"])
    findings = [("cited", f"{url} stands for {words[:60]!r}: {[w[:60] for u, w in got if u == url][:3]}")
                for url, words in wanted if (url, words) not in got]
    return len(wanted), findings
