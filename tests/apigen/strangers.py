"""MCP servers as their tools/list tells of them, in the shapes that strangers write."""

SERVERS = [
    {"server": "weather", "category": "Weather", "license": "MIT", "tools": [
        {"name": "get_forecast", "description": "Get the weather forecast for a given city.\n\nArgs: see below.",
         "input_schema": {"type": "object", "properties": {
             "city": {"type": "string", "description": "City name"},
             "days": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None,
                      "description": "Number of days"},
             "units": {"type": "string", "enum": ["metric", "imperial"]},
             "api_key": {"type": ["string", "null"]}}, "required": ["city"], "$schema": "x"}},
        {"name": "getAlerts", "description": "Returns active alerts for a country (optional severity filter)",
         "inputSchema": {"type": "object", "properties": {
             "country": {"type": "string", "description": "ISO country code"},
             "severe_only": {"type": "boolean", "description": "Only severe ones"}}, "required": ["country"]}},
        {"name": "history", "description": "Retrieves past observations between two dates for the specified station.",
         "inputSchema": {"type": "object", "properties": {
             "station_id": {"type": "string"}, "start_date": {"type": "string", "description": "YYYY-MM-DD"},
             "end_date": {"type": "string", "description": "YYYY-MM-DD"}}, "required": ["station_id", "start_date"]}},
    ]},
    {"server": "mail", "category": "Communication", "tools": [
        {"name": "send_email", "description": "Send an email to a recipient",
         "inputSchema": {"type": "object", "properties": {
             "to": {"type": "string", "description": "E-mail address"}, "subject": {"type": "string"},
             "body": {"type": "string", "description": "Text of the message"}}, "required": ["to", "subject", "body"]}},
        {"name": "search_inbox", "description": "Search the inbox for messages",
         "inputSchema": {"type": "object", "properties": {
             "query": {"type": "string", "description": "Search query"},
             "limit": {"type": "integer", "description": "Maximum number of results", "maximum": 50}},
             "required": ["query"]}},
        {"name": "delete", "description": "Deletes a message.",
         "inputSchema": {"type": "object", "properties": {"message_id": {"type": "string"}},
                         "required": ["message_id"]}},
    ]},
    {"server": "finance", "category": "Financial Services", "tools": [
        {"name": "quote", "description": "Fetch the latest quote of a stock",
         "inputSchema": {"type": "object", "properties": {"symbol": {"type": "string", "description": "Ticker"}},
                         "required": ["symbol"]}},
        {"name": "convert_currency", "description": "Convert an amount from one currency to another",
         "inputSchema": {"type": "object", "properties": {
             "amount": {"type": "number"}, "from_currency": {"type": "string", "description": "ISO code"},
             "to_currency": {"type": "string", "description": "Target currency, ISO code"}},
             "required": ["amount", "from_currency"]}},
    ]},
    {"server": "odd", "tools": [
        {"name": "blob", "description": "Stores a blob.", "inputSchema": {"type": "object", "properties": {
            "blob": {"type": "object"}}, "required": ["blob"]}},
        {"name": "ohne", "description": "指定した都市の天気を返します。",
         "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
        {"name": "login", "description": "Log in with a password", "inputSchema": {"type": "object", "properties": {
            "password": {"type": "string"}}, "required": ["password"]}},
        {"name": "weird", "description": "Create a thing with odd names",
         "inputSchema": {"type": "object", "properties": {
            "filter[date]": {"type": "string", "format": "date"}, "$top": {"type": "integer"}, "": {"type": "string"},
            "日付": {"type": "string"}, "name": {"type": "string", "description": "Name of the thing"}},
            "required": ["name"]}},
    ]},
]  # fmt: skip
