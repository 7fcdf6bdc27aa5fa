"""The commands of the bench, one module each or a few that belong together: arguments in, a printed result out."""
