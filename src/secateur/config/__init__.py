"""The settings of a study: read, checked, and spelled in one way so that they can be hashed."""

from secateur.config.cell import Cell as Cell
from secateur.config.cell import Role as Role
from secateur.config.cell import Stage as Stage
from secateur.config.cell import recipe_from as recipe_from
from secateur.config.epsilons import epsilons_by_norm as epsilons_by_norm
from secateur.config.load import load_study as load_study
from secateur.config.load import parse_study as parse_study
from secateur.config.load import study_from_json as study_from_json
from secateur.config.load import study_of as study_of
from secateur.config.presets import preset as preset
from secateur.config.problems import Problem as Problem
from secateur.config.problems import refuse as refuse
from secateur.config.repeats import repeats as repeats
from secateur.config.study import Study as Study
from secateur.config.study import study_schema as study_schema
