"""Rewards for reinforcement learning, as TRL's GRPOTrainer calls them."""

from llmrankers_groupwise.training.rewards.rewards import (
    GroupReward,
    format_reward,
    grouprank_v1,
    grouprank_v3,
    js_reward,
    kl_reward,
    ndcg_reward,
    rank_r1,
    rbo_reward,
    recall_reward,
)

__all__ = [
    "GroupReward",
    "format_reward",
    "grouprank_v1",
    "grouprank_v3",
    "js_reward",
    "kl_reward",
    "ndcg_reward",
    "rank_r1",
    "rbo_reward",
    "recall_reward",
]
