"""Expert, Teacher and Student: the networks of URD, one part of the paper per file."""

from urd.networks.encoder import Encoder, build_encoder
from urd.networks.student import Student
from urd.networks.teacher_student import TeacherStudent
from urd.networks.variants import VARIANTS, Variant

__all__ = ["VARIANTS", "Encoder", "Student", "TeacherStudent", "Variant", "build_encoder"]
