"""SFT and GRPO by TRL, and what they leave in a folder."""
