"""What the environments of AgentBoard's tool-query tasks offer: names and parameters theirs, words ours."""

from __future__ import annotations

from xlam_jax.format.values import Tool

# Type and meaning; no type where runs give texts as well as numbers (ids) or lists (answers).
_MEANING: dict[str, tuple[str | None, str]] = {
    "latitude": ("number", "Latitude in degrees."),
    "longitude": ("number", "Longitude in degrees."),
    "latitude1": ("number", "Latitude of the first place in degrees."),
    "longitude1": ("number", "Longitude of the first place in degrees."),
    "latitude2": ("number", "Latitude of the second place in degrees."),
    "longitude2": ("number", "Longitude of the second place in degrees."),
    "start_date": ("string", "First day, YYYY-MM-DD."),
    "end_date": ("string", "Last day, YYYY-MM-DD."),
    "current_date": ("string", "Today, YYYY-MM-DD."),
    "name": ("string", "Name of the city."),
    "zipcode": ("string", "Postal code."),
    "air_quality_index": ("number", "The index."),
    "movie_name": ("string", "Name of the film."),
    "movie_id": (None, "Id of the film, as a search returned it."),
    "person_name": ("string", "Name of the person."),
    "person_id": (None, "Id of the person, as a search returned it."),
    "graph": ("string", "Which graph: PaperNet or AuthorNet."),
    "node": ("string", "Name of the node."),
    "node1": ("string", "Name of the first node."),
    "node2": ("string", "Name of the second node."),
    "answer": (None, "The answer to the goal."),
}

_PLACE = ("latitude", "longitude")
_TWO_PLACES = ("latitude1", "longitude1", "latitude2", "longitude2")
_SPAN = (*_PLACE, "start_date", "end_date")
_TODAY = (*_PLACE, "current_date")


def _tool(name: str, description: str, *parameters: str) -> Tool:
    properties = {}
    for parameter in parameters:
        kind, meaning = _MEANING[parameter]
        properties[parameter] = {"type": kind, "description": meaning} if kind else {"description": meaning}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return Tool(name, description, schema)


_COMMON = (
    _tool("check_valid_actions", "Lists the actions that can be taken."),
    _tool("finish", "Ends the task with its answer.", "answer"),
)

TOOLS: dict[str, tuple[Tool, ...]] = {
    "weather": (
        _tool("get_user_current_date", "The user's current date."),
        _tool("get_user_current_location", "The user's current city."),
        _tool("get_historical_temp", "Temperature of past days at a place.", *_SPAN),
        _tool("get_historical_rain", "Rain of past days at a place.", *_SPAN),
        _tool("get_historical_snow", "Snow of past days at a place.", *_SPAN),
        _tool("get_snow_forecast", "Snow of coming days at a place.", *_SPAN),
        _tool("get_current_snow", "Today's snow at a place.", *_TODAY),
        _tool("get_current_temp", "Today's temperature at a place.", *_TODAY),
        _tool("get_latitude_longitude", "Coordinates of a city.", "name"),
        _tool("get_elevation", "Elevation of a place.", *_PLACE),
        _tool("get_temp_forecast", "Temperature of coming days at a place.", *_SPAN),
        _tool("get_rain_forecast", "Rain of coming days at a place.", *_SPAN),
        _tool("get_current_rain", "Today's rain at a place.", *_TODAY),
        _tool("get_distance", "Distance of two places.", *_TWO_PLACES),
        _tool("get_historical_air_quality_index", "Air quality of past days at a place.", *_SPAN),
        _tool("get_current_air_quality_index", "Today's air quality at a place.", *_TODAY),
        _tool("get_air_quality_level", "What an air quality index means.", "air_quality_index"),
        _tool("convert_zipcode_to_address", "The address of a postal code.", "zipcode"),
        *_COMMON,
    ),
    "movie": (
        _tool("get_search_movie", "Finds a film by name.", "movie_name"),
        _tool("get_movie_details", "Details of a film.", "movie_id"),
        _tool("get_movie_production_companies", "Companies that produced a film.", "movie_id"),
        _tool("get_movie_production_countries", "Countries in which a film was produced.", "movie_id"),
        _tool("get_movie_keywords", "Keywords of a film.", "movie_id"),
        _tool("get_movie_cast", "Cast of a film.", "movie_id"),
        _tool("get_movie_crew", "Crew of a film.", "movie_id"),
        _tool("get_movie_alternative_titles", "Other titles of a film.", "movie_id"),
        _tool("get_movie_translation", "Translations of a film's description.", "movie_id"),
        _tool("get_search_person", "Finds a person by name.", "person_name"),
        _tool("get_person_details", "Details of a person.", "person_id"),
        _tool("get_person_cast", "Films in which a person plays.", "person_id"),
        _tool("get_person_crew", "Films on whose crew a person is.", "person_id"),
        _tool("get_person_external_ids", "A person's ids on other sites.", "person_id"),
        *_COMMON,
    ),
    "academia": (
        _tool("loadPaperNet", "Loads the graph of papers and their citations."),
        _tool("loadAuthorNet", "Loads the graph of authors and their common papers."),
        _tool("neighbourCheck", "Neighbours of a node.", "graph", "node"),
        _tool("authorNodeCheck", "Details of an author.", "node"),
        _tool("paperNodeCheck", "Details of a paper.", "node"),
        _tool("authorEdgeCheck", "What connects two authors.", "node1", "node2"),
        _tool("paperEdgeCheck", "What connects two papers.", "node1", "node2"),
        *_COMMON,
    ),
}
