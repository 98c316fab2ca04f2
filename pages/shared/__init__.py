"""What every page shares: colours, links, the opened debugger, the frame around a page, and the two hand-made components."""
