"""The browser app: which pages there are, where they live, and what the menu says.

Started by `python -m attribution app`, which sets WHENCE_WORKSPACE; or by `streamlit run app.py`.
"""

import streamlit as st

st.set_page_config(page_title="Whence", page_icon=":material/call_split:", layout="wide", initial_sidebar_state=220)

PAGES = {
    "Look": [
        st.Page("pages/overview.py", title="Overview", icon=":material/grid_on:", default=True),
        st.Page("pages/mistakes.py", title="Mistakes", icon=":material/photo_library:", url_path="mistakes"),
        st.Page("pages/evidence.py", title="Evidence", icon=":material/account_tree:", url_path="evidence"),
    ],
    "Run": [
        st.Page("pages/setup.py", title="Setup", icon=":material/checklist:", url_path="setup"),
    ],
}

# The only markup written by hand: room at the top, and numbers that line up. No data goes through it.
st.html("<style>.stMainBlockContainer{padding-top:3.5rem}.stMetric{font-variant-numeric:tabular-nums}</style>")
st.navigation(PAGES).run()
