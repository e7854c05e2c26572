//! Several participants at once, of whom some die.
