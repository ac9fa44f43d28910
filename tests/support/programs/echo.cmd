@python "%~dp0stand_ins.py" echo %*
