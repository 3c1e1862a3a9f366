"""Texts that ship: task instructions, refusals, questions. Usable without a model.

Every task instruction says what `TASK_INSTRUCTION` says: call the tools that answer the query, and none
where none fits. None of them says how calls are written, which is the format instruction's business.
"""

from __future__ import annotations

TASK_WORDINGS = (
    "Answer the query by calling the tools. Call none if no tool fits.",
    "Use the available tools to answer the query. If none of them fits, make no call.",
    "Call the functions that the query needs, and no others. Where nothing fits, call nothing.",
    "You can call tools. Choose those that serve the query; leave them alone when none does.",
    "Given a query and a list of tools, decide which calls answer it. There may be none.",
    "You turn requests into tool calls. When no tool suits the request, return no call.",
    "Read the query, pick the right tools and fill in their parameters. No fitting tool means no call.",
    "Solve the user's task with the tools below. Do not call a tool that does not help.",
    "Make the function calls that fulfil the user's request. Make none if that cannot be done with them.",
    "You are an assistant with access to tools. Call what the request requires, otherwise nothing.",
    "Work out which tools the user needs and call them with values from the query. It may be none of them.",
    "Your job is to select functions and arguments for the query. If no function applies, select none.",
    "Help the user by calling functions. A call is made only when one of the functions is meant for it.",
    "For the query, produce every tool call that is needed. Produce no calls when the tools are unsuitable.",
    "Translate the query into calls of the given tools, taking arguments from what the user said. "
    "If the tools cannot do it, make no call.",
    "As an expert in composing function calls, answer the question with one or more calls, "
    "or with none where the functions do not fit.",
    "Several tools are described. Find those that match the query and call them; if none matches, call none.",
    "Fulfil the request through tools. Never invent a tool: without a fitting one, there is no call.",
    "Decide on the tool calls for this request. Zero calls is the right answer when no tool is relevant.",
    "The tools listed are all you have. Call them where they answer the query and abstain where they do not.",
    "Select the proper functions for the user's question and give each its arguments. "
    "Where there is no proper function, give no call.",
    "You are given functions and a question. Call the functions that answer it, and skip the rest; "
    "an unanswerable question gets no call.",
    "Act on the user's words with the tools provided, one call for each thing to be done. "
    "Do nothing when no tool can do it.",
    "Which tools does this request need? Call them. If it needs something else, make no call.",
)

REFUSALS = (
    "None of the available tools can do this, so I make no call.",
    "I have no tool that fits this request.",
    "The tools at hand do not cover this request.",
    "This cannot be answered with the functions I was given.",
    "No function here is meant for that, so none is called.",
    "I cannot help with this using the tools provided.",
    "There is no suitable tool among those available.",
    "The given functions are for other things; I cannot fulfil this request with them.",
)

QUESTIONS = (
    "Which {what} should I use?",
    "Could you tell me the {what}?",
    "I need the {what} to go on. What is it?",
    "Please give me the {what} first.",
    "The {what} is missing. Could you provide it?",
    "Before I can do this, I need to know the {what}.",
    "What {what} do you have in mind?",
    "To call the tool, the {what} is required. What should it be?",
)
