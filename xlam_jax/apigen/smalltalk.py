"""Messages that no tool of a computing library answers: targets of abstention."""

from __future__ import annotations

TRAIN = (
    "Tell me a joke about penguins.", "What's your favorite season?", "Write a haiku about the sea.",
    "Who painted the Mona Lisa?", "Book me a table for tonight at an Italian place.",
    "What's the weather in Oslo right now?", "Can you recommend a good mystery novel?",
    "Send an email to my landlord about the heating.", "How do I get red wine out of a carpet?",
    "Play some jazz in the living room.", "What's the capital of Mongolia?", "Order two pizzas to my office.",
    "Explain photosynthesis in simple words.", "Turn off the lights in the kitchen.",
    "Who won the football game last night?", "Translate good evening into Japanese.",
    "What are the opening hours of the museum?", "Find me a cheap flight to Lisbon.",
    "Should I take the job in another city?", "Thanks, that was helpful!", "What did you have for breakfast?",
    "Remind me to water the plants.", "Show me pictures of mountain lakes.", "How is the stock market today?",
    "Give me a recipe for lentil soup.", "Is my train delayed?", "What does the word serendipity mean?",
    "Call my dentist and move the appointment.", "Who is the president of Brazil?",
    "Write a birthday poem for my grandmother.", "Why is the sky blue?", "Open the garage door, please.",
    "What's a good name for a black cat?", "Summarize the plot of Hamlet.",
    "Where can I park near the stadium?",
)  # fmt: skip
DEV = (
    "Track the parcel I ordered last week.", "How do I tie a bow tie?", "Let's talk about something else.",
    "Who invented the telephone?", "Set the thermostat a bit lower.",
)  # fmt: skip
HELDOUT = (
    "What's a good movie for a rainy evening?", "Which river flows through Budapest?",
    "Post a photo of my dog on my profile.", "How can I sleep better?", "Find a plumber near me.",
    "Who wrote Pride and Prejudice?", "Start the dishwasher.", "What should I wear to a garden wedding?",
    "Is there traffic on the bridge at the moment?", "Write a short story about a lighthouse keeper.",
    "Which vaccinations do I need for Kenya?", "Cancel my gym membership.", "How do bees make honey?",
    "What's on TV tonight?", "Read me the latest headlines.", "Why do cats purr?",
)  # fmt: skip
