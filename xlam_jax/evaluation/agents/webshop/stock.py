"""What the shop's products are made of: kinds, attributes and options, all invented.

No two values of an option, and no two attributes of a department, are alike by the fuzzy comparison of the reward: to
that, `4 ounce` would be `8 ounce`.
"""

from __future__ import annotations

from dataclasses import dataclass

COLORS = (
    "beige", "black", "blue", "brown", "coral", "cream", "gold", "gray", "green", "ivory", "lilac", "navy", "olive",
    "orange", "pink", "purple", "red", "silver", "teal", "white", "yellow",
)  # fmt: skip

OPTIONS = {
    "color": COLORS,
    "size": ("petite", "small", "medium", "large", "tall", "plus"),
    "length": ("three feet", "six feet", "ten feet", "fifteen feet"),
    "scent": ("lavender", "citrus", "cedar", "rose water", "unscented", "sea salt", "vanilla"),
    "volume": ("four ounce", "eight ounce", "sixteen ounce", "one gallon"),
    "flavor": ("sea salt", "dark chocolate", "honey", "smoked paprika", "lemon", "maple", "plain"),
    "pack": ("pack of one", "pack of three", "pack of six", "pack of twelve"),
    "finish": ("matte", "brushed steel", "walnut", "oak", "glossy"),
    "capacity": ("two quart", "four quart", "six quart", "eight quart"),
}


@dataclass(frozen=True)
class Department:
    """Kinds of product that share attributes and options.

    Attributes:
      kinds: a kind's name, the group it stands in, lowest and highest price in dollars.
    """

    name: str
    kinds: tuple[tuple[str, str, int, int], ...]
    attributes: tuple[str, ...]
    options: tuple[str, ...]


DEPARTMENTS = (
    Department(
        "Beauty",
        (
            ("shampoo", "Hair", 7, 32), ("hair mask", "Hair", 9, 38), ("face cream", "Skin", 8, 60),
            ("body lotion", "Skin", 6, 28), ("hand soap", "Skin", 4, 18),
        ),
        ("sulfate free", "cruelty free", "paraben free", "dry skin", "natural ingredients", "tea tree", "fine mist",
         "long lasting", "sensitive skin", "plant based", "coconut oil", "easy carry"),
        ("scent", "volume"),
    ),
    Department(
        "Clothing",
        (
            ("hiking jacket", "Outerwear", 35, 140), ("rain coat", "Outerwear", 30, 120),
            ("polo shirt", "Tops", 12, 48), ("yoga pants", "Bottoms", 15, 60), ("winter scarf", "Accessories", 8, 40),
        ),
        ("machine washable", "moisture wicking", "slim fit", "hand wash", "quick drying", "high waist", "long sleeve",
         "tumble dry", "stretch fabric", "wind proof", "soft material", "daily wear"),
        ("color", "size"),
    ),
    Department(
        "Electronics",
        (
            ("charging cable", "Cables", 5, 30), ("wireless speaker", "Audio", 20, 150), ("ear buds", "Audio", 15, 130),
            ("desk lamp", "Lighting", 14, 70), ("phone tripod", "Camera", 12, 65),
        ),
        ("fast charging", "noise cancelling", "water resistant", "plug and play", "hands free", "high definition",
         "light weight", "long life", "easy to use", "heavy duty", "stereo sound", "dust proof"),
        ("color", "length"),
    ),
    Department(
        "Kitchen",
        (
            ("stock pot", "Cookware", 22, 110), ("mixing bowl", "Bakeware", 9, 45),
            ("slow cooker", "Appliances", 30, 160), ("salad spinner", "Tools", 11, 42),
            ("tea kettle", "Appliances", 16, 80),
        ),
        ("dishwasher safe", "non stick", "stainless steel", "bpa free", "easy clean", "oven safe", "heat resistant",
         "space saving", "leak proof", "induction ready", "rust proof", "glass lid"),
        ("color", "capacity"),
    ),
    Department(
        "Grocery",
        (
            ("trail mix", "Snacks", 5, 36), ("popcorn kernels", "Snacks", 4, 26), ("granola bars", "Snacks", 6, 34),
            ("herbal tea", "Drinks", 5, 29), ("pancake mix", "Baking", 4, 22),
        ),
        ("gluten free", "low sodium", "non gmo", "sugar free", "high protein", "dairy free", "keto friendly",
         "fair trade", "old fashioned", "no preservatives", "individually wrapped", "ready to eat"),
        ("flavor", "pack"),
    ),
    Department(
        "Furniture",
        (
            ("coffee table", "Living Room", 60, 320), ("book shelf", "Office", 45, 240),
            ("desk chair", "Office", 70, 380), ("bed frame", "Bedroom", 110, 480), ("shoe bench", "Entry", 40, 160),
        ),
        ("solid wood", "easy assemble", "mid century", "faux leather", "memory foam", "metal legs", "storage space",
         "fully assembled", "scratch resistant", "lumbar support", "rounded corners", "water proof"),
        ("color", "finish"),
    ),
    Department(
        "Outdoors",
        (
            ("camping tent", "Camping", 55, 290), ("sleeping bag", "Camping", 28, 150),
            ("bike helmet", "Cycling", 22, 110), ("water bottle", "Hiking", 8, 42),
            ("trekking poles", "Hiking", 24, 95),
        ),
        ("quick release", "carbon fiber", "double insulated", "easy to store", "high visibility", "uv protection",
         "all season", "shock absorbing", "carry bag", "tear proof", "foldable frame", "lifetime warranty"),
        ("color", "size"),
    ),
    Department(
        "Pets",
        (
            ("dog bed", "Dogs", 18, 120), ("cat tree", "Cats", 35, 180), ("dog leash", "Dogs", 7, 34),
            ("bird feeder", "Birds", 12, 58), ("pet carrier", "Travel", 24, 110),
        ),
        ("machine wash", "chew proof", "anti slip", "eco friendly", "extra soft", "double sided", "reflective stripes",
         "breathable mesh", "easy to fold", "odor control", "padded handle", "airline approved"),
        ("color", "size"),
    ),
)  # fmt: skip

BRANDS = (
    "Ambergrove", "Bexley", "Corvane", "Dellamar", "Everhythe", "Fernlock", "Gilderoy", "Harrowgate", "Inverlea",
    "Jorvick", "Kessalin", "Lumenford", "Merriweld", "Nordhaven", "Ostrava", "Pellucid", "Quenby", "Rivenhall",
    "Sablewood", "Tarnbrook", "Ulverston", "Vantrell", "Wyndmere", "Yewbarrow", "Zephyrine",
)  # fmt: skip
