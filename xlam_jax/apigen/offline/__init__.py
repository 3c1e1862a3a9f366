"""Rows without a language model: values by the meaning of a parameter, sentences from descriptions, spans to check."""
