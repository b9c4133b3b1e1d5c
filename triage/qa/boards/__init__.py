"""The seventeen charts of the QA dashboard (ux 10): each answers one question of one person, with its rows beside it."""
