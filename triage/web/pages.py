"""x"""

from flask import redirect

from triage.web.context import SIGNED_IN, Call, Route


def home(call: Call):
    return redirect("/worklist")


ROUTES = (Route(path="/", view=home, scopes=SIGNED_IN, html=True, needs_tx=False),)
