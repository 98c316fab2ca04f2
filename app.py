"""The browser app: which pages there are, where they live, and what the menu says.

Started by `python -m attribution app`, which sets WHENCE_WORKSPACE; or by `streamlit run app.py`.
"""

import streamlit as st

from pages.shared import carrying, entrance, tour

# Drawn here and not named from a set: Streamlit fetches its own icons for the browser tab from the internet.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0072B2"/>'
    '<path d="M8 8v5q0 4 8 4t8-4V8M16 17v8" fill="none" stroke="#fff" stroke-width="3.5" stroke-linecap="round"/></svg>'
)

st.set_page_config(page_title="Whence", page_icon=ICON, layout="wide", initial_sidebar_state=220)

# A page's address is the name of its file: until the first session has run this, Streamlit knows pages by their files.
# Hidden are those that one comes to from what they are about: from Evidence, Retrain, Review and Trust. The menu
# has nine entries at most.
PAGES = {
    "Look": [
        st.Page("pages/overview.py", title="Overview", icon=":material/grid_on:", default=True),
        st.Page("pages/mistakes.py", title="Mistakes", icon=":material/photo_library:", url_path="mistakes"),
        st.Page("pages/evidence.py", title="Evidence", icon=":material/account_tree:", url_path="evidence"),
        st.Page("pages/ask.py", title="Ask", url_path="ask", visibility="hidden"),
        st.Page("pages/map.py", title="Landscape", icon=":material/bubble_chart:", url_path="map"),
        st.Page("pages/versus.py", title="Two models", url_path="versus", visibility="hidden"),
        st.Page("pages/lenses.py", title="Lenses", url_path="lenses", visibility="hidden"),
    ],
    "Fix": [
        st.Page("pages/suspects.py", title="Suspects", icon=":material/flag:", url_path="suspects"),
        st.Page("pages/review.py", title="Review", icon=":material/rule:", url_path="review"),
        st.Page("pages/decisions.py", title="Decisions", url_path="decisions", visibility="hidden"),
        st.Page("pages/compare.py", title="Retrain & compare", icon=":material/compare_arrows:", url_path="compare"),
    ],
    "Run": [
        st.Page("pages/trust.py", title="Trust", icon=":material/verified:", url_path="trust"),
        st.Page("pages/published.py", title="Published results", url_path="published", visibility="hidden"),
        st.Page("pages/setup.py", title="Setup", icon=":material/checklist:", url_path="setup"),
    ],
}

# The only style written by hand: less room at the top, numbers that line up, fewer columns in a narrow window (a page
# asks for that by the key of a container). No data goes through it.
st.html(
    "<style>.stMainBlockContainer{padding:3rem 2.5rem 4rem}.stMainBlockContainer h1{font-size:2rem;padding:.25rem 0}"
    ".stMainBlockContainer h2{font-size:1.375rem;padding:.25rem 0}.stMetric{font-variant-numeric:tabular-nums}"
    ".stTextArea textarea{unicode-bidi:plaintext;text-align:start}"  # a text begins where its script does
    ".st-key-outbox{position:absolute}"  # it has no face, and shall take no room
    "@media (max-width:1000px){.st-key-one-column .stColumn{min-width:100%}"
    ".st-key-two-columns .stColumn{min-width:calc(50% - 1rem)}}</style>"
)
here = st.navigation(PAGES)
entrance.mark()
tour.draw()
here.run()
carrying.carry(here.url_path)
