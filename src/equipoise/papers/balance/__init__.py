"""The experiments on synaptic balance: Figures 3 to 5 of the paper, and questions that it leaves open."""
