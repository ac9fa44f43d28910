@python "%~dp0stand_ins.py" touch %*
