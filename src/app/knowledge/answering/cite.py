def citations_for(text, passages):
    return ()


def grounding_prompt(passages):
    return ""
