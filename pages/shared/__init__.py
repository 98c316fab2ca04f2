"""What the pages share: colours, links, the opened debugger, the frame around a page, and hand-made components."""
