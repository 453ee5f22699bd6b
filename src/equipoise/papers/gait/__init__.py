"""Experiments of Dalm, Ahmad, Ambrogioni and van Gerven: GAIT-prop at six layers, on CIFAR-10 and on ImageNet."""
