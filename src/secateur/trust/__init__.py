"""Automatic checks on every attack's result, and its grade: may one believe the number?"""

from secateur.trust.audit_context import Check as Check
from secateur.trust.audit_context import Grade as Grade
from secateur.trust.grading import grade as grade
from secateur.trust.joint import joint_lines as joint_lines
from secateur.trust.joint import joint_summary as joint_summary
from secateur.trust.predictions import misfit as misfit
