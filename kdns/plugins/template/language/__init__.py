"""Go's text/template, as far as one resource record needs it: everything but templates within templates."""

from kdns.plugins.template.language.evaluation import Template, TemplateError
from kdns.plugins.template.language.lexing import TemplateSyntaxError
from kdns.plugins.template.language.values import Method, Struct

__all__ = ["Method", "Struct", "Template", "TemplateError", "TemplateSyntaxError"]
