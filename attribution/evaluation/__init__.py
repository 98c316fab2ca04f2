"""Ground truth: what retraining says, and how well a method foretells it.

bank         models retrained on random parts of the training set, kept as what they say of the test set
lds          how well sums of scores foretell that: the linear datamodeling score, its intervals and its ceiling
marking      methods marked against a bank, kept as an artefact that can be read without computing
asked, kept  what curves of single predictions share; curves found again by method
leaving      what leaving out single training examples does, beside what a method foretells: leave-one-out
mislabel     how soon a ranking finds the labels that are known to be wrong
removing     what predictions lose without their strongest supporters, beside random examples: removal curves
patching     what one more step on the strongest supporters does: tail-patch
quanda       a fitted method as quanda's metrics expect an explainer
"""
