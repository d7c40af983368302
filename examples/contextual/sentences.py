"""Words of two senses, in sentences of either."""

from __future__ import annotations

SENSES = {
    "bank": {
        "money": (
            "He opened an account at the bank and deposited his savings.",
            "The bank raised its interest rates for loans to small companies.",
            "She worked as a manager of the largest bank in the country.",
            "The government bought shares of the bank during the financial crisis.",
            "Two men robbed the bank and stole money from its vault.",
        ),
        "river": (
            "The village lies on the eastern bank of the river.",
            "They built a small fort on the left bank of the stream.",
            "Trees grow along the muddy bank where the river meets the lake.",
            "The army crossed the river and camped on its southern bank.",
            "The boat was pulled up onto the grassy bank of the canal.",
        ),
    },
    "cell": {
        "biology": (
            "The nucleus of the cell contains most of its genetic material.",
            "Proteins are carried through the membrane of the cell.",
            "Each cell divides into two and copies its chromosomes.",
            "The virus enters the host cell and releases its genes.",
            "Oxygen is used by the cell to produce energy.",
        ),
        "prison": (
            "The prisoner was locked in a small cell without a window.",
            "He spent ten years in a prison cell for the murder.",
            "Guards found him dead in his cell the next morning.",
            "She shared her cell with three other women until her trial.",
            "The police held the suspect in a cell overnight.",
        ),
    },
    "match": {
        "game": (
            "The team won the final match of the season by two goals.",
            "He scored twice in his first match for the club.",
            "The match was played in front of forty thousand spectators.",
            "She lost the match against the champion in three sets.",
            "The referee stopped the match after a player was injured.",
        ),
        "fire": (
            "He lit a match and held it to the candle.",
            "She struck a match to light the old oil lamp.",
            "The fire was started by a burning match thrown into dry grass.",
            "He lit his cigarette with a match and blew out the flame.",
            "A single match was enough to set the paper on fire.",
        ),
    },
    "plant": {
        "factory": (
            "The power plant produces electricity from coal.",
            "The company closed its steel plant and fired the workers.",
            "Cars were assembled at a plant near the city.",
            "The nuclear plant was shut down after the accident.",
            "Engineers at the chemical plant repaired the broken pipes.",
        ),
        "botany": (
            "The plant has green leaves and small white flowers.",
            "This plant grows in moist soil in the shade of trees.",
            "The seeds of the plant are eaten by birds.",
            "Insects carry pollen from one plant to another.",
            "The roots of the plant were used as medicine.",
        ),
    },
}
