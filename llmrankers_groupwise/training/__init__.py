"""Training of rerankers: data without human answers, rewards, SFT and GRPO (extra [train])."""
