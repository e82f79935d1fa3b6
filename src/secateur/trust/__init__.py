"""Automatic checks of an attack's result, and the grade that says how far to trust it."""

from secateur.trust.check import Check as Check
from secateur.trust.check import Grade as Grade
from secateur.trust.grading import grade as grade
from secateur.trust.joint import joint_lines as joint_lines
from secateur.trust.joint import joint_summary as joint_summary
from secateur.trust.preprocessing import misfit as misfit
