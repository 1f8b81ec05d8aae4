"""Holds a request translation's losses against its source: what does not come out is listed, and what is listed was there.

Knows nothing of the code under test: it compares values. Every value of the source must stand in the output, in
whatever place, or be covered by a loss that names a key above it; every loss must name something of the source.
"""
import base64
import json

# Words by which a format says what a thing is, names of things that only one request uses, and settings whose values
# are other words in every format (the matrix compares calls, results, finish reasons and usage by themselves).
STRUCTURE = set("""type role object id callid toolcallid tooluseid itemid responseid status model modelversion stream
streamoptions includeusage index mode toolchoice toolconfig functioncallingconfig mediatype mimetype createdat created
completedat systemfingerprint stopreason finishreason stopsequence usage usagemetadata object servicetier tier store
paralleltoolcalls disableparalleltooluse nativefinishreason provider strict background truncation
logprobs incompletedetails error maxtokens additionalproperties promptfeedback avglogprobs name namespace format
obfuscation requestid sequencenumber outputindex contentindex effort budgettokens thinkingbudget thinkinglevel
reasoningeffort includethoughts summary display thinkingconfig n candidatecount toplogprobs responselogprobs
responsemimetype detail nullable propertyordering required enum frequencypenalty presencepenalty stopdetails
encoding user tokendetails modality details iserror thoughtstokencount safetyratings responsemodalities functioncall
avglogprobs tokencount evaltime loadtime summaryindex annotationindex
p channel slametrics latencycheckpoint estimatedtokens""".split())
# What is asked for in other ways too, or says no more than its absence.
ALWAYS = {("include", "reasoning.encrypted_content"), ("temperature", 1.0), ("topp", 1.0)}
# Of a whole reply: what says nothing of the answer. A Responses reply repeats its request; servers tell of their own
# times, filters, prices and versions; Gemini's explanation of a finish reason goes with the reason, and its token ids
# mean something to its own tokenizer only; offsets of a citation have no place at Anthropic.
REPLY_FRAME = set("""instructions tools prompt text temperature topp maxoutputtokens promptcachekey promptcacheretention
previousresponseid reasoning billing moderation contentfilters contentfilterresults promptfilterresults timeinfo xgroq seed metadata
createtime finishmessage tokenid startindex endindex groundingchunkindices toolusage""".split())
# Members that hold the answer under a name of the frame.
REPLY_HELD = {"output", "content", "message", "choices", "candidates", "delta", "item", "part", "contentblock"}

# Members that say which of several things of its kind an event belongs to, and those that bring a piece of a text.
PLACES = ["index", "output_index", "content_index", "summary_index"]
PIECES = set("""content text reasoning_content reasoning summary arguments partial_json input thinking signature delta
refusal""".split())
COMMON_ITEMS = {"message", "reasoning", "functioncall", "text", "thinking", "redactedthinking", "tooluse"}

# What another format asks for by a member of its own, by any of these names.
MEMBER = {("include", "message.output_text.logprobs"): {"logprobs", "responselogprobs"}}

# What a loss is called, and the keys under which the lost thing stands.
COVERS = {
    "reasoning": "encryptedcontent reasoningcontent reasoning reasoningdetails reasoningtext thinking signature data thoughtsignature text content",
    "thoughtsignature": "thoughtsignature text thought",
    "websearch": "websearchoptions googlesearch tools userlocation filters maxuses searchcontextsize",
    "googlesearch": "googlesearch googlesearchretrieval tools",
    "responseformat": "responseformat",
    "responseschema": "generationconfig responseschema responsejsonschema",
    "toolresult": "content toolresult",
    "searchresult": "source title",
    "citations": "citations citation title context",
    "span": "startindex endindex",
    "arguments": "arguments partialjson input args",
    "annotations": "annotations annotation",
    "topk": "topk",
    "system": "content text",
    "tools": "tools",
    "user": "user safetyidentifier",
    "userid": "userid",
    "reasoningeffort": "reasoning reasoningeffort",
    "toplogprobs": "toplogprobs include",
    "maxtokens": "maxtokens maxcompletiontokens",
    "sources": "include",
    "thinking": "thinking signature data budgettokens effort",
    "phase": "phase",
    "logprobs": "logprobs logprobsresult",
    "servertooluse": "websearchcall filesearchcall servertooluse servertoolusedetails numserversidetoolsused",
    "finishreason": "finishreason stopreason incompletedetails",
    "retrievedcontext": "retrievedcontext",
    "executedtools": "executedtools",
}


def plain(key):
    return str(key).replace("_", "").replace("-", "").lower()


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, path + (plain(key),))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    elif isinstance(value, str) and value[:1] in "{[":
        try:
            inner = json.loads(value)
        except ValueError:
            yield path, value
        else:
            yield from leaves(inner, path)
    elif value is not None:
        yield path, value


def events(stream):
    """The JSON of each event of a stream, which is SSE or Gemini's array."""
    if isinstance(stream, list):
        return stream
    told = []
    for event in stream.replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:"))
        if data and data != "[DONE]":
            told.append(json.loads(data))
    return told


def fragments(value, path=(), place=()):
    """Each leaf of an event: its keys, where it belongs by the indexes on the way to it, and the value."""
    if isinstance(value, dict):
        place += tuple(value[key] for key in PLACES if isinstance(value.get(key), int))
        place += ("thought",) if value.get("thought") else ()
        for key, inner in value.items():
            yield from fragments(inner, path + (key,), place)
    elif isinstance(value, list):
        for inner in value:
            yield from fragments(inner, path, place)
    elif value is not None:
        yield path, place, value


def told(stream):
    """A stream's events without what they say twice: of a Responses item, only its end is final, and the reply at the end
    has all items once more, sealed anew."""
    every = events(stream)
    if any(event.get("type") == "response.output_item.done" for event in every):
        for event in every:
            if event["type"] == "response.output_item.added":
                event["item"] = {"type": event["item"].get("type")}
            event.get("response", {}).pop("output", None)
    return every


def is_piece(event, path):
    """Whether a text goes on in a later event. Responses repeats whole texts in events that are no deltas."""
    if path[-1] not in PIECES or "groundingMetadata" in path:
        return False
    return not str(event.get("type")).startswith("response.") or event["type"].endswith(".delta")


def item_of(event, named):
    """Of which item an event tells, by its type, where only some formats have such items. They are named at their start,
    and by place afterwards."""
    item = event.get("item") or event.get("content_block") or {}
    place = event.get("output_index", event.get("index"))
    if item.get("type"):
        named[place] = plain(item["type"])
    kind = named.get(place)
    return () if place is None or kind is None or kind in COMMON_ITEMS else (kind,)


def gathered(stream):
    """A stream as trees of one leaf each. The pieces of a text are put together, those of one place as far as nothing of
    another kind came between them, and once more all of one kind: a text may be one block here and two there."""
    trees, apart, together, last, turn, named = [], {}, {}, {}, 0, {}
    for event in told(stream):
        for path, place, value in fragments(event, item_of(event, named)):
            if not isinstance(value, str) or not is_piece(event, path):
                trees.append((path, value))
                continue
            kind, choice = (path, place), next((part for part in place if isinstance(part, int)), 0)
            turn += last.get(choice, kind) != kind
            last[choice] = kind
            # Calls side by side have an index each; a text goes on, or another begins.
            key = kind if len([part for part in place if isinstance(part, int)]) > 1 else kind + (turn,)
            apart[key] = apart.get(key, "") + value
            together[path] = together.get(path, "") + value
    fine = trees + [(path, value) for (path, *_), value in apart.items()]
    return [nested(*leaf) for leaf in fine], [nested(*leaf) for leaf in together.items()]


def nested(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


def keys(value):
    found = set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found.add(plain(key))
            found |= keys(inner)
    elif isinstance(value, list):
        for inner in value:
            found |= keys(inner)
    return found


def decoded(text):
    """Base64 of a text in either alphabet, as its text."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "==").decode("utf8")
    except ValueError:
        return None


def squeezed(text):
    return "".join(text.split())


def is_frame(path):
    """Whether a reply's member belongs to its frame: at the top, or inside the answer but not as its text."""
    inside = set(path) & REPLY_HELD
    frame = REPLY_FRAME - {"text", "reasoning"} if inside else REPLY_FRAME
    return bool(set(path) & frame)


def check(item):
    """Findings: (rule, message) for each value that vanished in silence and each loss without a thing."""
    source, losses, body = item["source"], [(name, how) for name, how in item["losses"]], item["body"]
    is_reply = item["kind"] != "request"
    if not isinstance(source, dict):
        source = gathered(source)[0]
    if not isinstance(body, dict):
        body = sum(gathered(body), [])
    numbers, texts = set(), []
    for _, value in leaves(body):
        if isinstance(value, bool):
            continue
        if isinstance(value, (int, float)):
            numbers.add(float(value))
        else:
            texts.append(squeezed(value))
            # What is sealed for a byte field of Gemini's.
            texts += [squeezed(decoded(value) or "")] if value.startswith("czJhMS") else []
    everything = "\n".join(texts)
    members = keys(body)
    parts = {plain(part) for name, _ in losses for part in name.replace("/", ".").split(".")}
    covered = set(parts)
    for part in parts:
        covered |= set(COVERS.get(part, "").split())
    findings = []
    for path, value in leaves(source):
        if is_reply and is_frame(path):
            continue
        if set(path) & STRUCTURE or isinstance(value, bool) or set(path) & covered:
            continue
        if isinstance(value, (int, float)):
            if float(value) not in numbers and value != 0 and (path[-1], float(value)) not in ALWAYS:
                findings.append(("lost", f"{'.'.join(path)} = {value}"))
            continue
        text = squeezed(value)
        if not text or text in everything or (path[-1], value) in ALWAYS or MEMBER.get((path[-1], value), set()) & members:
            continue
        standard = text.replace("-", "+").replace("_", "/").rstrip("=")
        if path[-1] == "data" and (standard in everything or squeezed(decoded(text) or text) in everything):
            continue
        if text.startswith("data:") and text.split(",", 1)[-1] in everything:
            continue
        findings.append(("lost", f"{'.'.join(path)} = {value[:80]!r}"))
    there = keys(source) | {str(v).replace("_", "").lower() for _, v in leaves(source) if isinstance(v, str) and len(v) < 40}
    for name, how in losses:
        # A reply without a reason has to be given one.
        if is_reply and (name, how) == ("finish_reason", "approximated"):
            continue
        last = plain(name.split(".")[-1])
        aliases = set(COVERS.get(last, "").split()) | {last}
        if not aliases & there:
            findings.append(("listed", f"{name}={how}, but the source has no such thing"))
    return findings
